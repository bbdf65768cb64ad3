/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that changes the store in all ways is killed at a random moment, again and again. What
 * it had been told is done has to be there, what it was doing is done or not, and nothing else
 * is left over.
 *
 * Both sides make the same plan from the same seed, so only the number of steps that were
 * begun and done has to survive the child: it is in memory that both share.
 */
#include "support.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROOT STORE_ROOT_ID
#define THREADS 3
#define NAMES 8

/* What one thread's directory holds: by name, the version of the content; 0 = no such name.
 * Names with the same version are links to one record. */
struct model {
    uint64_t versions[NAMES];
};

enum action { CREATE, STAGE, REPLACE, UNLINK, LINK, RENAME, EXCHANGE, ACTIONS };

struct step {
    enum action action;
    unsigned a, b; /* names */
    uint64_t version;
};

/* Step `number` of a thread, as far as it can be done in `model`; false: nothing to do. */
static bool plan(unsigned thread, uint64_t number, const struct model *model, struct step *step)
{
    struct random random = random_new(thread * UINT64_C(1000003) + number * 7 + 1);
    *step = (struct step){
        .action = (enum action)random_below(&random, ACTIONS),
        .a = (unsigned)random_below(&random, NAMES),
        .b = (unsigned)random_below(&random, NAMES),
        .version = (uint64_t)thread << 32 | (number + 1),
    };
    bool has_a = model->versions[step->a] != 0, has_b = model->versions[step->b] != 0;
    switch (step->action) {
    case CREATE:
        return !has_a;
    case UNLINK:
        return has_a;
    case LINK:
        return has_a && !has_b;
    case RENAME:
        return has_a && step->a != step->b && model->versions[step->a] != model->versions[step->b];
    case EXCHANGE:
        return has_a && has_b && step->a != step->b;
    case STAGE:
    case REPLACE:
    case ACTIONS:
    default:
        return true;
    }
}

static void apply(struct model *model, const struct step *step)
{
    uint64_t *a = &model->versions[step->a], *b = &model->versions[step->b], old = *b;
    switch (step->action) {
    case CREATE:
    case STAGE:
    case REPLACE:
        *a = step->version;
        break;
    case UNLINK:
        *a = 0;
        break;
    case LINK:
        *b = *a;
        break;
    case RENAME:
        *b = *a;
        *a = 0;
        break;
    case EXCHANGE:
        *b = *a;
        *a = old;
        break;
    case ACTIONS:
    default:
        break;
    }
}

static size_t size_of(uint64_t version)
{
    static const size_t sizes[] = {0, 100, 1926, 1927, 4081, 20000, 140000};
    return sizes[version % array_length(sizes)];
}

static const char *name_of(unsigned i)
{
    static const char *const names[NAMES] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    return names[i];
}

/* ------------------------------------------------------------------- child -- */

struct shared {
    atomic_uint_fast64_t begun[THREADS], done[THREADS];
};

struct worker {
    struct store *store;
    struct shared *shared;
    unsigned thread;
    uint64_t directory;
    struct model model;
};

static void write_and_close(struct store *store, uint64_t id, uint64_t version)
{
    char *bytes = random_bytes(version, size_of(version));
    must(store_writer_open(store, id) == 0);
    must(store_write(store, id, bytes, size_of(version), 0) == (ssize_t)size_of(version));
    store_writer_close(store, id);
    must(store_fsync(store, id, true) == 0);
    free(bytes);
}

static void create(const struct worker *worker, uint64_t parent, const char *name, uint64_t version)
{
    struct store_attr attr;
    must(store_create(worker->store, parent, name, &OWNER_FILE, &attr) == 0);
    write_and_close(worker->store, attr.id, version);
}

/* A lease that nobody ever drops: the kernel's, of a killed daemon. */
static void lease_now_and_then(const struct worker *worker, const struct step *step)
{
    uint64_t id = step->version % 2 ? id_of(worker->store, worker->directory, name_of(step->b)) : 0;
    if (id != 0)
        must(store_lease(worker->store, id) == 0);
}

static void perform(const struct worker *worker, const struct step *step)
{
    struct store *store = worker->store;
    uint64_t directory = worker->directory, staging = STORE_STAGING_ID;
    const char *a = name_of(step->a), *b = name_of(step->b);
    struct store_attr attr;
    char temporary[16];
    snprintf(temporary, sizeof(temporary), "tmp-%u", worker->thread);
    lease_now_and_then(worker, step);
    switch (step->action) {
    case CREATE:
        create(worker, directory, a, step->version);
        break;
    case STAGE:
        create(worker, staging, temporary, step->version);
        must(store_rename(store, staging, temporary, directory, a, 0) == 0);
        must(store_seal(store, id_of(store, directory, a)) == 0);
        break;
    case REPLACE:
        create(worker, directory, temporary, step->version);
        must(store_rename(store, directory, temporary, directory, a, 0) == 0);
        break;
    case UNLINK:
        must(store_unlink(store, directory, a) == 0);
        break;
    case LINK:
        must(store_link(store, id_of(store, directory, a), directory, b, &attr) == 0);
        break;
    case RENAME:
        must(store_rename(store, directory, a, directory, b, 0) == 0);
        break;
    case EXCHANGE:
        must(store_rename(store, directory, a, directory, b, STORE_RENAME_EXCHANGE) == 0);
        break;
    case ACTIONS:
    default:
        must(false);
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    atomic_uint_fast64_t *begun = &worker->shared->begun[worker->thread];
    atomic_uint_fast64_t *done = &worker->shared->done[worker->thread];
    for (uint64_t number = atomic_load(done);; number++) {
        struct step step;
        atomic_store(begun, number + 1);
        if (plan(worker->thread, number, &worker->model, &step)) {
            perform(worker, &step);
            apply(&worker->model, &step);
        }
        atomic_store(done, number + 1);
    }
    return NULL;
}

static const char *directory_name(unsigned thread)
{
    static const char *const names[THREADS] = {"a", "b", "c"};
    return names[thread];
}

static void change_until_killed(struct fixture *fixture, struct shared *shared,
                                const struct model models[THREADS])
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    fixture->options.sync = true; /* acknowledged is durable */
    fixture_open(fixture);
    must(store_recover(fixture->store) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){fixture->store, shared, i,
                                     id_of(fixture->store, ROOT, directory_name(i)), models[i]};
        must(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (;;)
        pause();
}

/* ------------------------------------------------------------------- parent -- */

static bool matches(struct store *store, uint64_t directory, const struct model *model)
{
    for (unsigned i = 0; i < NAMES; i++) {
        uint64_t version = model->versions[i], id = id_of(store, directory, name_of(i));
        if ((id != 0) != (version != 0))
            return false;
        if (id == 0)
            continue;
        uint32_t names = 0;
        for (unsigned j = 0; j < NAMES; j++)
            names += model->versions[j] == version;
        char *bytes = random_bytes(version, size_of(version));
        bool same = holds(store, id, bytes, size_of(version)) && attr_of(store, id).nlink == names;
        free(bytes);
        if (!same)
            return false;
    }
    return true;
}

/* A file that was being written under its final name may have any part of its bytes. */
static bool is_part_of(struct store *store, uint64_t directory, const struct step *step)
{
    uint64_t id = id_of(store, directory, name_of(step->a));
    char *bytes = random_bytes(step->version, size_of(step->version));
    size_t size = id == 0 ? 0 : attr_of(store, id).size;
    bool is = id != 0 && size <= size_of(step->version) && holds(store, id, bytes, size);
    free(bytes);
    return is;
}

/* What the directory holds now is what was done, and perhaps the step that was begun. */
static void settle(struct store *store, unsigned thread, const struct shared *shared,
                   uint64_t first, struct model *model)
{
    uint64_t directory = id_of(store, ROOT, directory_name(thread));
    uint64_t done = atomic_load(&shared->done[thread]);
    struct step step;
    for (uint64_t number = first; number < done; number++)
        if (plan(thread, number, model, &step))
            apply(model, &step);
    if (matches(store, directory, model))
        return;
    bool begun = atomic_load(&shared->begun[thread]) > done && plan(thread, done, model, &step);
    if (!begun)
        fail_msg("thread %u: not what %lu steps make", thread, done);
    if (step.action == CREATE && is_part_of(store, directory, &step)) {
        must(store_unlink(store, directory, name_of(step.a)) == 0);
    } else {
        apply(model, &step);
    }
    if (!matches(store, directory, model))
        fail_msg("thread %u: neither what %lu steps make, nor one more (%d)", thread, done,
                 step.action);
}

static void remove_temporary(struct store *store, uint64_t directory, unsigned thread)
{
    char temporary[16];
    snprintf(temporary, sizeof(temporary), "tmp-%u", thread);
    if (id_of(store, directory, temporary) != 0)
        must(store_unlink(store, directory, temporary) == 0);
}

static void check_after_kill(struct fixture *fixture, struct shared *shared,
                             const uint64_t first[THREADS], struct model models[THREADS])
{
    fixture_open(fixture);
    struct store *store = fixture->store;
    assert_int_equal(store_recover(store), 0);
    assert_int_equal(examine(store).orphans, 0);
    uint64_t expected = 2 + THREADS;
    for (unsigned i = 0; i < THREADS; i++) {
        settle(store, i, shared, first[i], &models[i]);
        remove_temporary(store, id_of(store, ROOT, directory_name(i)), i);
        remove_temporary(store, STORE_STAGING_ID, i);
        for (unsigned j = 0; j < NAMES; j++) {
            bool counted = models[i].versions[j] == 0;
            for (unsigned k = 0; k < j; k++)
                counted = counted || models[i].versions[k] == models[i].versions[j];
            expected += !counted;
        }
    }
    fixture_close(fixture); /* and with that the temporary ones are gone */
    fixture_open(fixture);
    struct examined examined = examine(fixture->store);
    assert_int_equal(examined.records, expected);
    assert_int_equal(examined.staged_files, 0);
    fixture_close(fixture);
}

static void nothing_acknowledged_is_lost_by_a_kill(void **state)
{
    struct fixture *fixture = *state;
    struct model models[THREADS] = {0};
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    for (unsigned i = 0; i < THREADS; i++)
        make_directory(fixture->store, ROOT, directory_name(i));
    fixture_close(fixture);

    struct random random = random_new(0); /* here, so that the children have the same seed */
    uint64_t all = 0;
    for (unsigned round = 0; round < scaled(60, 12); round++) {
        uint64_t first[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            /* A step that was begun counts as done: whether it was, the model knows. */
            first[i] = atomic_load(&shared->begun[i]);
            atomic_store(&shared->done[i], first[i]);
        }
        pid_t pid = fork();
        if (pid == 0)
            change_until_killed(fixture, shared, models);
        struct timespec moment = {.tv_nsec = (long)random_below(&random, 150000000)};
        nanosleep(&moment, NULL);
        int status;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, SIGKILL); /* nothing else ended it */
        check_after_kill(fixture, shared, first, models);
        for (unsigned i = 0; i < THREADS; i++)
            all += shared->done[i] - first[i];
    }
    assert_true(all > 100);
    munmap(shared, sizeof(*shared));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(nothing_acknowledged_is_lost_by_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
