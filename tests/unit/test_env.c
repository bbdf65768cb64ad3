/* SPDX-License-Identifier: BSD-2-Clause */
/* The environment: tables, pooled readers, a map that grows under them, places in the file. */
#include "support.h"

#include <stdatomic.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "store/env.h"

#define TINY ((size_t)256 << 10)

static struct env *open_env(struct fixture *fixture, bool read_only, size_t map_size, bool *fresh)
{
    struct env *env = NULL;
    (void)mkdir(fixture->path, 0755);
    assert_int_equal(env_open(fixture->path, read_only, map_size, &env, fresh), 0);
    return env;
}

/* An environment with its tables. */
static struct env *new_env(struct fixture *fixture, size_t map_size)
{
    bool fresh;
    struct env *env = open_env(fixture, false, map_size, &fresh);
    MDB_txn *txn;
    assert_true(fresh);
    assert_int_equal(env_write_begin(env, &txn), 0);
    assert_int_equal(env_open_tables(env, txn, true), 0);
    assert_int_equal(env_write_commit(env, txn), 0);
    return env;
}

static int put(struct env *env, MDB_txn *txn, uint64_t key, const void *bytes, size_t size)
{
    MDB_val k = {sizeof(key), &key}, v = {size, (void *)bytes};
    return lmdb_error(mdb_put(txn, env_tables(env)->records, &k, &v, 0));
}

static int get(struct env *env, MDB_txn *txn, uint64_t key, MDB_val *v)
{
    MDB_val k = {sizeof(key), &key};
    return lmdb_error(mdb_get(txn, env_tables(env)->records, &k, v));
}

/* ------------------------------------------------------------------- open -- */

static void only_an_environment_without_tables_is_fresh(void **state)
{
    struct fixture *fixture = *state;
    bool fresh = false;
    env_close(open_env(fixture, false, 0, &fresh));
    assert_true(fresh);
    env_close(new_env(fixture, 0));
    env_close(open_env(fixture, false, 0, &fresh));
    assert_false(fresh);
    env_close(NULL);
}

static void missing_table_is_enoent(void **state)
{
    bool fresh;
    struct env *env = open_env(*state, false, 0, &fresh);
    struct env_read read = {0};
    assert_int_equal(env_read(env, &read), 0);
    assert_int_equal(env_open_tables(env, read.txn, false), -ENOENT);
    env_read_done(&read);
    env_close(env);
}

static void path_that_cannot_be_opened_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct env *env = NULL;
    bool fresh;
    assert_int_equal(env_open(fixture->path, false, 0, &env, &fresh), -ENOENT);
    assert_int_equal(env_open(fixture->path, true, 0, &env, &fresh), -ENOENT);
    assert_null(env);
}

static void file_that_is_not_of_lmdb_is_einval(void **state)
{
    struct fixture *fixture = *state;
    struct env *env = NULL;
    bool fresh;
    char path[400], bytes[16384];
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    snprintf(path, sizeof(path), "%s/data.mdb", fixture->path);
    random_fill(1, bytes, sizeof(bytes));
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    close(fd);
    assert_int_equal(env_open(fixture->path, false, 0, &env, &fresh), -EINVAL);
}

static void map_is_as_large_as_asked_or_sensible(void **state)
{
    struct fixture *fixture = *state;
    struct env *env = new_env(fixture, TINY);
    assert_int_equal(env_map_size(env), TINY);
    assert_int_equal(env_page_size(env), sysconf(_SC_PAGESIZE));
    env_close(env);

    bool fresh;
    env = open_env(fixture, false, 0, &fresh);
    assert_true(env_map_size(env) > (size_t)1 << 29);
    env_close(env);
}

/* --------------------------------------------------------------- readers -- */

static void reader_sees_the_moment_of_its_beginning(void **state)
{
    struct env *env = new_env(*state, 0);
    MDB_txn *txn;
    struct env_read before = {0};
    MDB_val v;
    assert_int_equal(env_read(env, &before), 0);
    assert_int_equal(env_write_begin(env, &txn), 0);
    assert_int_equal(put(env, txn, 1, "x", 1), 0);
    assert_int_equal(env_write_commit(env, txn), 0);
    assert_int_equal(get(env, before.txn, 1, &v), -ENOENT);
    env_read_done(&before);
    /* From the pool now, and it sees the present. */
    assert_int_equal(env_read(env, &before), 0);
    assert_int_equal(get(env, before.txn, 1, &v), 0);
    env_read_done(&before);
    env_read_done(&before); /* ends once */
    env_close(env);
}

#define CROWD 200

struct crowd {
    struct env *env;
    pthread_barrier_t all_read;
};

static void *read_with_all_others(void *arg)
{
    struct crowd *crowd = arg;
    for (int round = 0; round < 3; round++) {
        cleanup_read struct env_read read = {0};
        must(env_read(crowd->env, &read) == 0);
        pthread_barrier_wait(&crowd->all_read);
    }
    return NULL;
}

static void more_readers_than_the_pool_keeps_are_no_matter(void **state)
{
    struct crowd crowd = {.env = new_env(*state, 0)};
    pthread_t threads[CROWD];
    pthread_barrier_init(&crowd.all_read, NULL, CROWD);
    for (int i = 0; i < CROWD; i++)
        must(pthread_create(&threads[i], NULL, read_with_all_others, &crowd) == 0);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crowd.all_read);
    /* Slots are used again, round after round. */
    MDB_envinfo info;
    mdb_env_info(env_lmdb(crowd.env), &info);
    assert_in_range(info.me_numreaders, CROWD / 2, 2 * CROWD);
    env_close(crowd.env);
}

/* -------------------------------------------------------------- the file -- */

/* Every page of LMDB begins with its number; an overflow value lies 16 bytes behind it. */
static void check_place(struct env *env, MDB_txn *txn, uint64_t key, const void *bytes, size_t size)
{
    MDB_val v;
    assert_int_equal(get(env, txn, key, &v), 0);
    off_t offset = env_offset(env, txn, v.mv_data), page = (off_t)env_page_size(env);
    assert_int_equal(offset % page, 16);
    uint64_t number;
    assert_int_equal(pread(env_fd(env), &number, sizeof(number), offset - 16), sizeof(number));
    assert_int_equal(number, offset / page);

    char *found = malloc(size);
    assert_int_equal(pread(env_fd(env), found, size, offset), size);
    assert_memory_equal(found, bytes, size);
    free(found);
}

static void values_are_where_the_offset_says(void **state)
{
    struct env *env = new_env(*state, TINY);
    for (uint64_t key = 0; key < 40; key++) {
        size_t size = 5000 + key * 1000;
        char *bytes = random_bytes(key, size);
        MDB_txn *txn;
        int r = ENV_MAP_FULL;
        while (r == ENV_MAP_FULL) {
            assert_int_equal(env_write_begin(env, &txn), 0);
            r = put(env, txn, key, bytes, size);
            if (r == 0) {
                assert_int_equal(env_write_commit(env, txn), 0);
                break;
            }
            mdb_txn_abort(txn);
            assert_int_equal(r, ENV_MAP_FULL);
            assert_int_equal(env_grow(env), 0);
        }
        cleanup_read struct env_read read = {0};
        assert_int_equal(env_read(env, &read), 0);
        check_place(env, read.txn, key, bytes, size);
        free(bytes);
    }
    assert_true(env_map_size(env) > TINY);
    env_close(env);
}

/* A store from a machine with larger pages than ours: LMDB keeps its page size. */
static void offset_is_right_with_larger_pages_than_the_machines(void **state)
{
    for (long page = 8192; page <= 32768; page *= 2) {
        struct fixture *fixture = *state;
        snprintf(fixture->path, sizeof(fixture->path), "%s/%ld", fixture->directory, page);
        pretend_page_size(page);
        env_close(new_env(fixture, TINY * 7));
        pretend_page_size(0);

        /* The kernel aligns large maps to more than a page: this one is too small for that. */
        void *between = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        bool fresh;
        struct env *env = open_env(fixture, false, TINY * 7, &fresh);
        assert_int_equal(env_page_size(env), page);
        MDB_txn *txn;
        char *bytes = random_bytes(9, 100000);
        assert_int_equal(env_write_begin(env, &txn), 0);
        assert_int_equal(env_open_tables(env, txn, false), 0);
        for (uint64_t key = 0; key < 10; key++)
            assert_int_equal(put(env, txn, key, bytes + key, 90000), 0);
        assert_int_equal(env_write_commit(env, txn), 0);
        {
            cleanup_read struct env_read read = {0};
            assert_int_equal(env_read(env, &read), 0);
            for (uint64_t key = 0; key < 10; key++)
                check_place(env, read.txn, key, bytes + key, 90000);
        }
        free(bytes);
        env_close(env);
        munmap(between, 4096);
    }
}

/* --------------------------------------------------------------- growing -- */

static void full_map_is_told_and_grows(void **state)
{
    struct env *env = new_env(*state, TINY);
    char bytes[TINY] = {1};
    MDB_txn *txn;
    assert_int_equal(env_write_begin(env, &txn), 0);
    assert_int_equal(put(env, txn, 1, bytes, sizeof(bytes)), ENV_MAP_FULL);
    mdb_txn_abort(txn);
    assert_int_equal(env_grow(env), 0);
    assert_int_equal(env_map_size(env), 2 * TINY);
    assert_int_equal(env_write_begin(env, &txn), 0);
    assert_int_equal(put(env, txn, 1, bytes, sizeof(bytes)), 0);
    assert_int_equal(env_write_commit(env, txn), 0);
    env_close(env);
}

#define READERS 6

struct growing {
    struct env *env;
    atomic_bool stop;
    atomic_uint_fast64_t written; /* keys below this one exist */
    atomic_uint_fast64_t reads;
};

static void *read_all_the_time(void *arg)
{
    struct growing *growing = arg;
    struct random random = random_new((uint64_t)pthread_self());
    while (!atomic_load(&growing->stop)) {
        uint64_t written = atomic_load(&growing->written);
        cleanup_read struct env_read read = {0};
        must(env_read(growing->env, &read) == 0);
        for (int i = 0; i < 20 && written > 0; i++) {
            uint64_t key = random_below(&random, written);
            char bytes[10000];
            MDB_val v;
            must(get(growing->env, read.txn, key, &v) == 0 && v.mv_size == sizeof(bytes));
            random_fill(key, bytes, 64);
            must(memcmp(v.mv_data, bytes, 64) == 0);
            off_t offset = env_offset(growing->env, read.txn, v.mv_data);
            must(pread(env_fd(growing->env), bytes + 64, 64, offset) == 64);
            must(memcmp(bytes, bytes + 64, 64) == 0);
        }
        atomic_fetch_add(&growing->reads, 1);
    }
    return NULL;
}

/* Readers that overlap all the time must neither be hurt by the map's moves nor keep it from
 * moving. */
static void map_grows_under_readers(void **state)
{
    struct growing growing = {.env = new_env(*state, TINY)};
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++)
        must(pthread_create(&threads[i], NULL, read_all_the_time, &growing) == 0);
    int grown = 0;
    for (uint64_t key = 0; key < scaled(3000, 500);) {
        char bytes[10000];
        random_fill(key, bytes, sizeof(bytes));
        MDB_txn *txn;
        assert_int_equal(env_write_begin(growing.env, &txn), 0);
        int r = 0;
        for (uint64_t n = 0; n < 20 && r == 0; n++) {
            random_fill(key + n, bytes, sizeof(bytes));
            r = put(growing.env, txn, key + n, bytes, sizeof(bytes));
        }
        if (r == 0)
            r = env_write_commit(growing.env, txn);
        else
            mdb_txn_abort(txn);
        if (r == 0) {
            key += 20;
            atomic_store(&growing.written, key);
            continue;
        }
        assert_int_equal(r, ENV_MAP_FULL);
        assert_int_equal(env_grow(growing.env), 0);
        grown++;
    }
    atomic_store(&growing.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(grown >= 5);
    assert_true(growing.reads > 0);
    env_close(growing.env);
}

static void must_not_wait_for_ever(int signal)
{
    (void)signal;
    static const char text[] = "env_grow() waits for ever while others read\n";
    (void)!write(2, text, sizeof(text) - 1);
    _exit(1);
}

static void *hold_reads_that_overlap(void *arg)
{
    struct growing *growing = arg;
    while (!atomic_load(&growing->stop)) {
        struct env_read read = {0};
        must(env_read(growing->env, &read) == 0);
        for (volatile int i = 0; i < 20000; i = i + 1)
            ;
        env_read_done(&read);
        atomic_fetch_add(&growing->reads, 1);
    }
    return NULL;
}

static void map_grows_although_readers_overlap(void **state)
{
    struct growing growing = {.env = new_env(*state, TINY)};
    pthread_t threads[16];
    for (size_t i = 0; i < array_length(threads); i++)
        must(pthread_create(&threads[i], NULL, hold_reads_that_overlap, &growing) == 0);
    signal(SIGALRM, must_not_wait_for_ever);
    alarm(60);
    for (int i = 0; i < 10; i++) {
        uint64_t reads = atomic_load(&growing.reads);
        assert_int_equal(env_grow(growing.env), 0);
        while (atomic_load(&growing.reads) < reads + 100)
            sched_yield();
    }
    alarm(0);
    atomic_store(&growing.stop, true);
    for (size_t i = 0; i < array_length(threads); i++)
        pthread_join(threads[i], NULL);
    env_close(growing.env);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ADDRESS_SPACE_IS_FREE 0 /* their shadow memory takes all there is */
#else
#define ADDRESS_SPACE_IS_FREE 1

/* Where address space is limited, growing ends with an error, not with a lost map. */
static void map_that_cannot_grow_stays_usable(void **state)
{
    struct env *env = new_env(*state, (size_t)64 << 20);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
        must(setrlimit(RLIMIT_AS, &limit) == 0);
        int r = 0;
        for (int i = 0; i < 10 && r == 0; i++)
            r = env_grow(env);
        must(r == -ENOMEM);
        struct env_read read = {0};
        MDB_val v;
        must(env_read(env, &read) == 0);
        must(get(env, read.txn, 1, &v) == -ENOENT);
        env_read_done(&read);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    env_close(env);
}
#endif

/* ------------------------------------------------------- another process -- */

static void tell(int fd)
{
    must(write(fd, "!", 1) == 1);
}

static void await(int fd)
{
    char byte;
    must(read(fd, &byte, 1) == 1);
}

static void read_in_another_process(const char *path, int fd)
{
    struct env *env;
    bool fresh;
    MDB_txn *txn;
    must(env_open(path, true, TINY, &env, &fresh) == 0);
    must(mdb_txn_begin(env_lmdb(env), NULL, MDB_RDONLY, &txn) == 0);
    must(env_open_tables(env, txn, false) == 0);
    must(mdb_txn_commit(txn) == 0);
    must(env_map_size(env) == TINY);
    for (int round = 1; round <= 3; round++) {
        struct env_read read = {0};
        MDB_val v;
        tell(fd);
        await(fd);
        must(env_read(env, &read) == 0);
        must(get(env, read.txn, (uint64_t)round, &v) == 0);
        char last = ((char *)v.mv_data)[v.mv_size - 1], found;
        off_t offset = env_offset(env, read.txn, v.mv_data);
        must(pread(env_fd(env), &found, 1, offset + (off_t)v.mv_size - 1) == 1);
        must(last == round && found == round);
        env_read_done(&read);
    }
    must(env_map_size(env) >= 4 * TINY);
    env_close(env);
}

/* A reading process finds that the writing one has made the map larger than its own. */
static void reader_process_follows_a_growing_map(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    env_close(new_env(fixture, TINY));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]); /* so that we end if the other side does */
        read_in_another_process(fixture->path, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    await(ends[0]);
    bool fresh;
    struct env *env = open_env(fixture, false, TINY, &fresh);
    for (int round = 1; round <= 3; round++) {
        MDB_txn *txn;
        char bytes[TINY];
        memset(bytes, round, sizeof(bytes));
        assert_int_equal(env_grow(env), 0);
        assert_int_equal(env_write_begin(env, &txn), 0);
        assert_int_equal(env_open_tables(env, txn, false), 0);
        assert_int_equal(put(env, txn, (uint64_t)round, bytes, sizeof(bytes)), 0);
        assert_int_equal(env_write_commit(env, txn), 0);
        tell(ends[0]);
        if (round < 3)
            await(ends[0]);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
    env_close(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_directory(only_an_environment_without_tables_is_fresh),
        test_with_directory(missing_table_is_enoent),
        test_with_directory(path_that_cannot_be_opened_is_refused),
        test_with_directory(file_that_is_not_of_lmdb_is_einval),
        test_with_directory(map_is_as_large_as_asked_or_sensible),
        test_with_directory(reader_sees_the_moment_of_its_beginning),
        test_with_directory(more_readers_than_the_pool_keeps_are_no_matter),
        test_with_directory(values_are_where_the_offset_says),
        test_with_directory(offset_is_right_with_larger_pages_than_the_machines),
        test_with_directory(full_map_is_told_and_grows),
        test_with_directory(map_grows_under_readers),
        test_with_directory(map_grows_although_readers_overlap),
#if ADDRESS_SPACE_IS_FREE
        test_with_directory(map_that_cannot_grow_stays_usable),
#endif
        test_with_directory(reader_process_follows_a_growing_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
