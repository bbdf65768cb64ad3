/* SPDX-License-Identifier: BSD-2-Clause */
/* Files in staging are brought into the store when they are let go, and take writers again. */
#include "support.h"

#include <stdatomic.h>
#include <sys/wait.h>

#define STAGING STORE_STAGING_ID

static const size_t sizes[] = {1, 100, 1900, 5000, 65536, 65537, 300000, 6 << 20};

static void settle(struct store *store, uint64_t id)
{
    assert_int_equal(store_seal(store, id), 0);
    struct store_attr attr = attr_of(store, id);
    assert_true(attr.held && !attr.open && !attr.sealed);
    assert_int_equal(attr.mode & 0777, OWNER_FILE.mode);
}

static void writing_goes_on_where_it_ended(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(1, (6 << 20) + 10);
    for (size_t i = 0; i < array_length(sizes); i++) {
        for (int committed = 0; committed < 2; committed++) {
            size_t size = sizes[i];
            uint64_t id = write_unsealed(store, STAGING, "f", bytes, size);
            settle(store, id);
            if (committed)
                assert_int_equal(store_sync(store), 0);
            assert_true(holds(store, id, bytes, size));
            assert_int_equal(store_write(store, id, bytes + size, 10, (off_t)size), 10);
            assert_true(attr_of(store, id).open);
            assert_true(attr_of(store, id).reopened);
            assert_true(holds(store, id, bytes, size + 10));
            settle(store, id);
            assert_true(holds(store, id, bytes, size + 10));
            assert_int_equal(store_sync(store), 0);
            assert_true(holds(store, id, bytes, size + 10));
            assert_int_equal(store_unlink(store, STAGING, "f"), 0);
        }
    }
    free(bytes);
}

static int set_size(struct store *store, uint64_t id, uint64_t size)
{
    struct store_attr now;
    return store_setattr(store, id, STORE_SET_SIZE, &(struct store_attr){.size = size}, &now);
}

static void size_can_be_changed(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(1, 6 << 20), zeros[100] = {0};
    for (size_t i = 0; i < array_length(sizes); i++) {
        uint64_t id = write_unsealed(store, STAGING, "f", bytes, sizes[i]);
        settle(store, id);
        assert_int_equal(set_size(store, id, sizes[i] / 2), 0);
        assert_true(holds(store, id, bytes, sizes[i] / 2));
        settle(store, id);
        assert_int_equal(store_fallocate(store, id, 0, (off_t)sizes[i] / 2, 100), 0);
        assert_int_equal(attr_of(store, id).size, sizes[i] / 2 + 100);
        char end[100];
        assert_int_equal(store_read(store, id, end, 100, (off_t)sizes[i] / 2), 100);
        assert_memory_equal(end, zeros, 100);
        settle(store, id);
        assert_int_equal(set_size(store, id, 0), 0);
        assert_true(holds(store, id, "", 0));
        assert_int_equal(store_unlink(store, STAGING, "f"), 0);
    }
    free(bytes);
}

static void times_that_were_set_stay_until_the_next_write(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr now, set = {.mtime = {1234567, 89}, .atime = {7654321, 98}};
    uint64_t id = write_unsealed(store, STAGING, "f", "abc", 3);
    assert_int_equal(store_setattr(store, id, STORE_SET_MTIME | STORE_SET_ATIME, &set, &now), 0);
    settle(store, id);
    assert_int_equal(attr_of(store, id).mtime.tv_nsec, 89);
    assert_int_equal(store_write(store, id, "d", 1, 3), 1);
    assert_int_equal(attr_of(store, id).atime.tv_sec, 7654321);
    assert_true(attr_of(store, id).mtime.tv_sec > 1234567);
    assert_int_equal(store_setattr(store, id, STORE_SET_MTIME, &set, &now), 0);
    settle(store, id);
    assert_int_equal(attr_of(store, id).mtime.tv_sec, 1234567);
}

struct watch {
    struct store *store;
    uint64_t id;
};

static bool is_brought_in(void *arg)
{
    const struct watch *watch = arg;
    return !attr_of(watch->store, watch->id).open;
}

/* A program that appends and closes, over and over, shall not have it copied each time. */
static void file_that_is_written_again_is_left_alone(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, STAGING, "f", "abc", 3);
    uint64_t other = write_unsealed(store, STAGING, "o", "abc", 3);
    struct watch watch = {store, id}, behind = {store, other};
    assert_int_equal(store_writer_open(store, id), 0);
    store_writer_close(store, id);
    assert_true(wait_for(is_brought_in, &watch));
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_write(store, id, "d", 1, 3), 1);
    store_writer_close(store, id);
    assert_int_equal(store_writer_open(store, other), 0);
    store_writer_close(store, other);
    assert_true(wait_for(is_brought_in, &behind)); /* would come behind it */
    assert_true(attr_of(store, id).open);
    assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
    assert_false(attr_of(store, id).open);
    assert_true(holds(store, id, "abcd", 4));
}

/* ---------------------------------------------------------------------- crash -- */

/* Ends after the change that brings a file back is durable, with or without what was written. */
static void write_again_and_die(struct fixture *fixture, int fd, const char *bytes)
{
    uint64_t ids[array_length(sizes)];
    fixture_open(fixture);
    struct store *store = fixture->store;
    for (size_t i = 0; i < array_length(sizes); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%zu", i);
        ids[i] = write_unsealed(store, STAGING, name, bytes, sizes[i]);
        must(store_seal(store, ids[i]) == 0);
    }
    must(store_sync(store) == 0);
    for (size_t i = 0; i < array_length(sizes); i++)
        must(store_write(store, ids[i], bytes + sizes[i], 10, (off_t)sizes[i]) == 10);
    must(store_sync(store) == 0);
    must(write(fd, ids, sizeof(ids)) == sizeof(ids));
    _exit(0);
}

static void what_was_durable_stays_durable(void **state)
{
    struct fixture *fixture = *state;
    char *bytes = random_bytes(1, (6 << 20) + 10);
    uint64_t ids[array_length(sizes)];
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0)
        write_again_and_die(fixture, ends[1], bytes);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], ids, sizeof(ids)), sizeof(ids));
    close(ends[0]);
    close(ends[1]);
    fixture_open(fixture);
    assert_int_equal(store_recover(fixture->store), 0);
    for (size_t i = 0; i < array_length(sizes); i++)
        assert_true(holds(fixture->store, ids[i], bytes, sizes[i] + 10));
    free(bytes);
}

/* ---------------------------------------------------------------------- races -- */

struct reader {
    struct store *store;
    uint64_t id;
    size_t size;
    atomic_bool stop;
    unsigned reads;
};

static void *read_all(void *arg)
{
    struct reader *reader = arg;
    char *buffer = malloc(reader->size);
    must(buffer != NULL);
    while (!atomic_load(&reader->stop)) {
        ssize_t n = store_read(reader->store, reader->id, buffer, reader->size, 0);
        must(n == (ssize_t)reader->size);
        for (ssize_t i = 0; i < n; i++)
            must(buffer[i] >= 'a' && buffer[i] <= 'z');
        reader->reads++;
    }
    free(buffer);
    return NULL;
}

/* The pages that it had in the store are used for something else while it is read. */
static void reader_sees_old_or_new_bytes(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 1 << 20;
    char *letters = malloc(size), *zeros = calloc(1, size);
    assert_true(letters != NULL && zeros != NULL);
    memset(letters, 'a', size);
    struct reader reader = {
        .store = store, .id = write_unsealed(store, STAGING, "f", letters, size), .size = size};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    for (unsigned i = 0; i < scaled(100, 20); i++) {
        settle(store, reader.id);
        write_file(store, STORE_ROOT_ID, "other", zeros, size); /* takes pages that are free */
        assert_int_equal(store_sync(store), 0);
        memset(letters, 'a' + i % 26, 4096);
        assert_int_equal(store_write(store, reader.id, letters, 4096, 8192), 4096);
        assert_int_equal(store_sync(store), 0);
    }
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    assert_true(reader.reads > 0);
    free(letters);
    free(zeros);
}

struct racer {
    struct store *store;
    uint64_t id;
    unsigned number;
    pthread_barrier_t *start;
};

static void *write_one(void *arg)
{
    struct racer *racer = arg;
    char byte = (char)('0' + racer->number);
    pthread_barrier_wait(racer->start);
    must(store_write(racer->store, racer->id, &byte, 1, (off_t)racer->number * 1000) == 1);
    return NULL;
}

static void two_writers_bring_it_back_once(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (unsigned round = 0; round < scaled(100, 20); round++) {
        char bytes[5000];
        memset(bytes, 'x', sizeof(bytes));
        uint64_t id = write_unsealed(store, STAGING, "f", bytes, sizeof(bytes));
        settle(store, id);
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, 4);
        struct racer racers[4];
        pthread_t threads[4];
        for (unsigned i = 0; i < 4; i++) {
            racers[i] = (struct racer){store, id, i, &start};
            assert_int_equal(pthread_create(&threads[i], NULL, write_one, &racers[i]), 0);
        }
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            bytes[i * 1000] = (char)('0' + i);
        }
        pthread_barrier_destroy(&start);
        assert_true(holds(store, id, bytes, sizeof(bytes)));
        assert_int_equal(store_unlink(store, STAGING, "f"), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(writing_goes_on_where_it_ended),
        test_with_store(size_can_be_changed),
        test_with_store(times_that_were_set_stay_until_the_next_write),
        test_with_store(file_that_is_written_again_is_left_alone),
        test_with_directory(what_was_durable_stays_durable),
        test_with_store(reader_sees_old_or_new_bytes),
        test_with_store(two_writers_bring_it_back_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
