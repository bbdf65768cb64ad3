/* SPDX-License-Identifier: BSD-2-Clause */
/* Group commit: changes of many threads, changes that fail, a map that is too small. */
#include "support.h"

#include "store/writer.h"

#define THREADS 16

struct bench {
    struct env *env;
    struct writer *writer;
};

static struct bench start(struct fixture *fixture, size_t map_size)
{
    struct bench bench;
    bool fresh;
    MDB_txn *txn;
    (void)mkdir(fixture->path, 0755);
    assert_int_equal(env_open(fixture->path, false, map_size, &bench.env, &fresh), 0);
    assert_int_equal(env_write_begin(bench.env, &txn), 0);
    assert_int_equal(env_open_tables(bench.env, txn, true), 0);
    assert_int_equal(env_write_commit(bench.env, txn), 0);
    assert_int_equal(writer_start(bench.env, WRITER_BYTES_MAX, NULL, NULL, &bench.writer), 0);
    return bench;
}

static void stop(struct bench *bench)
{
    writer_stop(bench->writer);
    env_close(bench->env);
}

struct put {
    struct env *env;
    uint64_t key;
    size_t size;
    int result; /* what the change returns */
    unsigned runs;
};

static int put_change(struct view *view, void *arg)
{
    struct put *put = arg;
    put->runs++;
    MDB_val k = {sizeof(put->key), &put->key}, v = {put->size, NULL};
    int rc = mdb_put(view->txn, env_tables(put->env)->records, &k, &v, MDB_RESERVE);
    if (rc != 0)
        return lmdb_error(rc);
    random_fill(put->key, v.mv_data, put->size);
    return put->result;
}

static bool has(struct env *env, uint64_t key, size_t size)
{
    cleanup_read struct env_read read = {0};
    must(env_read(env, &read) == 0);
    MDB_val k = {sizeof(key), &key}, v;
    if (mdb_get(read.txn, env_tables(env)->records, &k, &v) != 0)
        return false;
    char *expected = random_bytes(key, size);
    bool same = v.mv_size == size && memcmp(expected, v.mv_data, size) == 0;
    free(expected);
    must(same);
    return true;
}

static uint64_t count(struct env *env)
{
    cleanup_read struct env_read read = {0};
    MDB_stat stat;
    must(env_read(env, &read) == 0);
    must(mdb_stat(read.txn, env_tables(env)->records, &stat) == 0);
    return stat.ms_entries;
}

/* ---------------------------------------------------------------------------- */

static void change_is_there_when_run_returns(void **state)
{
    struct bench bench = start(*state, 0);
    for (uint64_t key = 0; key < 10; key++) {
        struct put put = {bench.env, key, 100, 0, 0};
        assert_int_equal(writer_run(bench.writer, put_change, &put, 100), 0);
        assert_true(has(bench.env, key, 100));
        assert_int_equal(put.runs, 1);
    }
    assert_int_equal(writer_commits(bench.writer), 10);
    stop(&bench);
    writer_stop(NULL);
}

static void failing_change_leaves_nothing_and_tells_its_error(void **state)
{
    struct bench bench = start(*state, 0);
    struct put put = {bench.env, 7, 100, -ENOTEMPTY, 0};
    assert_int_equal(writer_run(bench.writer, put_change, &put, 100), -ENOTEMPTY);
    assert_false(has(bench.env, 7, 100));
    assert_int_equal(writer_commits(bench.writer), 0);
    stop(&bench);
}

/* ------------------------------------------------------------ many threads -- */

struct worker {
    struct bench *bench;
    uint64_t first; /* keys from here on */
    unsigned changes;
    unsigned fail_one_in; /* 0 = none */
    size_t size, told;    /* the value's bytes, and what writer_run() is told */
};

/* Every change has its own result, and what was told is so. */
static void *change_often(void *arg)
{
    const struct worker *worker = arg;
    for (unsigned i = 0; i < worker->changes; i++) {
        bool fails = worker->fail_one_in != 0 && i % worker->fail_one_in == 0;
        struct put put = {worker->bench->env, worker->first + i, worker->size,
                          fails ? -(int)(1 + i % 30) : 0, 0};
        int r = writer_run(worker->bench->writer, put_change, &put, worker->told);
        must(r == put.result && put.runs > 0);
        must(has(worker->bench->env, put.key, put.size) == !fails);
    }
    return NULL;
}

static void run_workers(struct bench *bench, struct worker worker)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i] = worker;
        workers[i].bench = bench;
        workers[i].first = i * 1000000;
        must(pthread_create(&threads[i], NULL, change_often, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void waiting_changes_share_a_commit(void **state)
{
    struct bench bench = start(*state, 0);
    unsigned changes = scaled(200, 50);
    run_workers(&bench, (struct worker){.changes = changes, .size = 50, .told = 50});
    assert_int_equal(count(bench.env), THREADS * changes);
    /* Alone, each would be a commit; that all are in two's at least is far from the usual. */
    assert_true(writer_commits(bench.writer) <= THREADS * changes / 2);
    stop(&bench);
}

static void failing_changes_hurt_no_others(void **state)
{
    struct bench bench = start(*state, 0);
    unsigned changes = scaled(100, 30);
    run_workers(&bench,
                (struct worker){.changes = changes, .fail_one_in = 3, .size = 50, .told = 50});
    assert_int_equal(count(bench.env), THREADS * (changes - (changes + 2) / 3));
    stop(&bench);
}

static void map_grows_between_runs(void **state)
{
    struct bench bench = start(*state, 64 << 10);
    unsigned changes = scaled(40, 20);
    run_workers(&bench, (struct worker){
                            .changes = changes, .fail_one_in = 5, .size = 20000, .told = 20000});
    assert_int_equal(count(bench.env), THREADS * (changes - (changes + 4) / 5));
    assert_true(env_map_size(bench.env) >= (size_t)8 << 20);
    stop(&bench);
}

static void change_that_needs_a_larger_map_runs_again(void **state)
{
    struct bench bench = start(*state, 64 << 10);
    struct put put = {bench.env, 1, 4 << 20, 0, 0};
    assert_int_equal(writer_run(bench.writer, put_change, &put, put.size), 0);
    assert_true(has(bench.env, 1, put.size));
    assert_true(put.runs > 1);
    assert_int_equal(writer_commits(bench.writer), 1);
    stop(&bench);
}

/* ------------------------------------------------------------------ batches -- */

struct measure {
    struct put put;
    size_t view; /* the transaction of the last run: the one that was committed */
};

static int measure_change(struct view *view, void *arg)
{
    struct measure *measure = arg;
    measure->view = mdb_txn_id(view->txn);
    return put_change(view, &measure->put);
}

#define MEASURED 20

struct measurer {
    struct bench *bench;
    uint64_t first;
    size_t told;
    size_t txns[MEASURED]; /* out */
};

static void *measure_often(void *arg)
{
    struct measurer *measurer = arg;
    for (uint64_t i = 0; i < MEASURED; i++) {
        struct measure measure = {{measurer->bench->env, measurer->first + i, 10, 0, 0}, 0};
        must(writer_run(measurer->bench->writer, measure_change, &measure, measurer->told) == 0);
        measurer->txns[i] = measure.view;
    }
    return NULL;
}

/* The most changes that shared a transaction, when each is told to write `told` bytes. */
static unsigned most_in_one(struct bench *bench, size_t told)
{
    static struct measurer measurers[THREADS];
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        measurers[i] = (struct measurer){.bench = bench, .first = i * 1000, .told = told};
        must(pthread_create(&threads[i], NULL, measure_often, &measurers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

    const size_t all = THREADS * MEASURED;
    unsigned most = 0;
    for (size_t i = 0; i < all; i++) {
        unsigned same = 0;
        for (size_t j = 0; j < all; j++)
            same += measurers[i / MEASURED].txns[i % MEASURED] ==
                    measurers[j / MEASURED].txns[j % MEASURED];
        most = same > most ? same : most;
    }
    return most;
}

static void bytes_bound_a_transaction(void **state)
{
    struct bench bench = start(*state, 0);
    assert_in_range(most_in_one(&bench, WRITER_BYTES_MAX / 3), 2, 3);
    assert_int_equal(most_in_one(&bench, WRITER_BYTES_MAX), 1);
    assert_int_equal(most_in_one(&bench, WRITER_BYTES_MAX * 2), 1); /* alone, not never */
    assert_true(most_in_one(&bench, 0) > 3);
    stop(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_directory(change_is_there_when_run_returns),
        test_with_directory(failing_change_leaves_nothing_and_tells_its_error),
        test_with_directory(waiting_changes_share_a_commit),
        test_with_directory(failing_changes_hurt_no_others),
        test_with_directory(map_grows_between_runs),
        test_with_directory(change_that_needs_a_larger_map_runs_again),
        test_with_directory(bytes_bound_a_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
