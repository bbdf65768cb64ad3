/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading content: all sizes, all offsets, and whole versions while others replace them. */
#include "support.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ROOT STORE_ROOT_ID
#define EXTENT ((size_t)128 << 10)

static const size_t sizes[] = {
    0,    1,    2,    1925, 1926, 1927,       2014,   2015,       4079,       4080,
    4081, 4095, 4096, 4097, 8192, EXTENT - 1, EXTENT, EXTENT + 1, 3 * EXTENT, (2 << 20) + 1,
};

static void check_reads(struct store *store, uint64_t id, const char *bytes, size_t size)
{
    const size_t around[] = {0, 1, 1926, 2015, 4080, 4096, EXTENT, 2 * EXTENT, size};
    char *found = malloc(size + 200);
    for (size_t i = 0; i < array_length(around); i++)
        for (size_t j = 0; j < array_length(around); j++)
            for (int shift = -1; shift <= 1; shift++) {
                size_t offset = around[i] + (size_t)(around[i] > 0 ? shift : 0);
                size_t length = around[j] + 1;
                size_t left = offset < size ? size - offset : 0;
                size_t expected = left < length ? left : length;
                if (length > size + 100)
                    continue;
                memset(found, 0x5a, length + 1);
                assert_int_equal(store_read(store, id, found, length, (off_t)offset), expected);
                if (expected > 0)
                    assert_memory_equal(found, bytes + offset, expected);
                /* Nothing behind what was read. */
                assert_int_equal(found[expected], 0x5a);
            }
    free(found);
}

static void content_of_all_sizes_is_read_at_all_offsets(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < array_length(sizes); i++) {
        char name[32];
        char *bytes = random_bytes(i, sizes[i]);
        snprintf(name, sizeof(name), "%zu", sizes[i]);
        uint64_t unsealed = write_unsealed(fixture->store, ROOT, name, bytes, sizes[i]);
        check_reads(fixture->store, unsealed, bytes, sizes[i]);
        uint64_t id = write_file(fixture->store, ROOT, name, bytes, sizes[i]);
        assert_true(holds(fixture->store, id, bytes, sizes[i]));
        check_reads(fixture->store, id, bytes, sizes[i]);
        free(bytes);
    }
    fixture_close(fixture);
    fixture->options.read_only = true;
    fixture_open(fixture);
    for (size_t i = 0; i < array_length(sizes); i++) {
        char name[32];
        char *bytes = random_bytes(i, sizes[i]);
        snprintf(name, sizeof(name), "%zu", sizes[i]);
        check_reads(fixture->store, id_of(fixture->store, ROOT, name), bytes, sizes[i]);
        free(bytes);
    }
}

static void read_of_many_extents_comes_in_one_call(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 50 * EXTENT + 77;
    char *bytes = random_bytes(1, size), *found = malloc(size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    assert_int_equal(store_read(store, id, found, size, 0), size);
    assert_memory_equal(found, bytes, size);
    assert_int_equal(store_read(store, id, found, size - 3, 3), size - 3);
    assert_memory_equal(found, bytes + 3, size - 3);
    free(found);
    free(bytes);
}

static void behind_the_end_there_is_nothing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char byte;
    const size_t some[] = {0, 10, 3000, 5000, 300000};
    for (size_t i = 0; i < array_length(some); i++) {
        char *bytes = random_bytes(2, some[i]);
        uint64_t id = write_file(store, ROOT, "a", bytes, some[i]);
        assert_int_equal(store_read(store, id, &byte, 1, (off_t)some[i]), 0);
        assert_int_equal(store_read(store, id, &byte, 1, (off_t)some[i] + 1), 0);
        assert_int_equal(store_read(store, id, &byte, 1, INT64_MAX), 0);
        assert_int_equal(store_read(store, id, &byte, 1, -1), -EINVAL);
        assert_int_equal(store_read(store, id, &byte, 0, 0), 0);
        free(bytes);
    }
}

static void what_is_no_content_is_refused(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char bytes[10];
    assert_int_equal(store_read(store, ROOT, bytes, 10, 0), -EISDIR);
    assert_int_equal(store_read(store, 123456, bytes, 10, 0), -ENOENT);
    assert_int_equal(store_read(store, 0, bytes, 10, 0), -ENOENT);
}

static void target_of_every_length_is_read(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t lengths[] = {1, 100, 1926, 1927, 2015, 4080, 4081, 4095};
    char target[STORE_SYMLINK_MAX + 2], found[STORE_SYMLINK_MAX + 1];
    struct store_attr attr;
    memset(target, 't', sizeof(target));
    for (size_t i = 0; i < array_length(lengths); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%zu", lengths[i]);
        target[lengths[i]] = '\0';
        assert_int_equal(store_symlink(store, ROOT, name, target, &OWNER_FILE, &attr), 0);
        assert_int_equal(attr.mode, S_IFLNK | 0777);
        assert_int_equal(attr.size, lengths[i]);
        assert_int_equal(store_read(store, attr.id, found, sizeof(found), 0), lengths[i]);
        assert_memory_equal(found, target, lengths[i]);
        target[lengths[i]] = 't';
    }
    target[STORE_SYMLINK_MAX + 1] = '\0';
    assert_int_equal(store_symlink(store, ROOT, "x", target, &OWNER_FILE, &attr), -ENAMETOOLONG);
    target[STORE_SYMLINK_MAX] = '\0';
    assert_int_equal(store_symlink(store, ROOT, "4095", target, &OWNER_FILE, &attr), -EEXIST);
}

/* A content whose extents are gone, one of which is too short. */
static void damage_is_eio(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    char *bytes = random_bytes(3, 3 * EXTENT), *found = malloc(3 * EXTENT);
    uint64_t id = write_file(store, ROOT, "a", bytes, 3 * EXTENT);
    struct view *view = begin_change(store);
    MDB_cursor *cursor;
    MDB_val k, v;
    assert_int_equal(mdb_cursor_open(view->txn, store->tables.extents, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_FIRST), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_NEXT), 0);
    assert_int_equal(mdb_cursor_del(cursor, 0), 0);
    mdb_cursor_close(cursor);
    commit_change(store, view);
    assert_int_equal(store_read(store, id, found, 3 * EXTENT, 0), -EIO);
    assert_int_equal(store_read(store, id, found, 1, (off_t)EXTENT), -EIO);
    assert_int_equal(store_read(store, id, found, EXTENT, 0), EXTENT);
    assert_memory_equal(found, bytes, EXTENT);
    free(bytes);
    free(found);
    fixture_close(fixture); /* not to be examined */
}

/* ------------------------------------------------- while others replace it -- */

#define NAMES 4

struct churn {
    struct store *store;
    /* What a kernel does with the lock of a directory: whoever has looked a name up holds a
     * lease on its record before the name can be taken away. */
    pthread_rwlock_t directory;
    atomic_bool stop;
    atomic_uint read;
};

static const size_t churn_sizes[] = {1000, 3000, 20000, 200000, 700000};

/* Versions are their number, again and again. */
static size_t version_size(uint64_t version)
{
    return churn_sizes[version % array_length(churn_sizes)] & ~(size_t)7;
}

static void *replace_often(void *arg)
{
    struct churn *churn = arg;
    uint64_t *words = malloc(700000);
    unsigned rounds = scaled(400, 100);
    for (uint64_t version = 1; version <= rounds; version++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", (unsigned)(version % NAMES));
        size_t size = version_size(version);
        for (size_t i = 0; i < size / 8; i++)
            words[i] = version;
        uint64_t id = write_unsealed(churn->store, ROOT, "new", words, size);
        must(store_seal(churn->store, id) == 0);
        pthread_rwlock_wrlock(&churn->directory);
        must(store_rename(churn->store, ROOT, "new", ROOT, name, 0) == 0);
        pthread_rwlock_unlock(&churn->directory);
    }
    atomic_store(&churn->stop, true);
    free(words);
    return NULL;
}

static void check_version(struct churn *churn, uint64_t id, uint64_t *words)
{
    struct store_attr attr = attr_of(churn->store, id);
    ssize_t n = store_read(churn->store, id, words, 700000, 0);
    must(n == (ssize_t)attr.size);
    must(n == (ssize_t)version_size(words[0]));
    for (size_t i = 0; i < (size_t)n / 8; i++)
        must(words[i] == words[0]);
}

static void *read_often(void *arg)
{
    struct churn *churn = arg;
    struct random random = random_new((uint64_t)pthread_self());
    uint64_t *words = malloc(700000), *again = malloc(700000);
    while (!atomic_load(&churn->stop)) {
        char name[16];
        struct store_attr attr;
        snprintf(name, sizeof(name), "%u", (unsigned)random_below(&random, NAMES));
        pthread_rwlock_rdlock(&churn->directory);
        bool found = store_lookup(churn->store, ROOT, name, &attr) == 0;
        must(!found || store_lease(churn->store, attr.id) == 0);
        pthread_rwlock_unlock(&churn->directory);
        if (!found)
            continue;
        check_version(churn, attr.id, words);
        sched_yield();
        check_version(churn, attr.id, again);
        must(memcmp(words, again, attr.size) == 0);
        atomic_fetch_add(&churn->read, 1);
        store_lease_drop(churn->store, attr.id, 1);
    }
    free(words);
    free(again);
    return NULL;
}

static void readers_see_whole_versions_under_replacement(void **state)
{
    struct fixture *fixture = *state;
    fixture_close(fixture);
    fixture->options.map_size = 1 << 20; /* and the map grows meanwhile */
    fixture_open(fixture);
    struct churn churn = {.store = fixture->store};
    pthread_rwlock_init(&churn.directory, NULL);
    pthread_t writer, readers[4];
    for (size_t i = 0; i < array_length(readers); i++)
        must(pthread_create(&readers[i], NULL, read_often, &churn) == 0);
    must(pthread_create(&writer, NULL, replace_often, &churn) == 0);
    pthread_join(writer, NULL);
    for (size_t i = 0; i < array_length(readers); i++)
        pthread_join(readers[i], NULL);
    pthread_rwlock_destroy(&churn.directory);
    assert_true(churn.read > 0);
    /* All that was replaced is gone. */
    fixture_reopen(fixture);
    struct examined examined = examine(fixture->store);
    assert_int_equal(examined.records, 2 + NAMES);
    assert_int_equal(examined.orphans, 0);
}

/* ------------------------------------------------- beside a writing process -- */

static void *read_unleased(void *arg)
{
    struct churn *churn = arg;
    uint64_t *words = malloc(700000);
    struct random random = random_new((uint64_t)pthread_self());
    while (!atomic_load(&churn->stop)) {
        char name[16];
        struct store_attr attr;
        snprintf(name, sizeof(name), "%u", (unsigned)random_below(&random, NAMES));
        if (store_lookup(churn->store, ROOT, name, &attr) != 0)
            continue;
        /* No lease of ours reaches the writer: a version can be gone before it is read, but
         * it is gone as a whole. */
        ssize_t n = store_read(churn->store, attr.id, words, 700000, 0);
        must(n == -ENOENT || n == (ssize_t)version_size(words[0]));
        for (ssize_t i = 0; i < n / 8; i++)
            must(words[i] == words[0]);
        if (n > 0)
            atomic_fetch_add(&churn->read, 1);
    }
    free(words);
    return NULL;
}

/* More threads than processors, so that they are interrupted anywhere. */
static void read_beside(struct fixture *fixture, int fd)
{
    pthread_t readers[12];
    char byte;
    fixture->options.read_only = true;
    fixture->options.create = false;
    fixture_open(fixture);
    struct churn churn = {.store = fixture->store};
    for (size_t i = 0; i < array_length(readers); i++)
        must(pthread_create(&readers[i], NULL, read_unleased, &churn) == 0);
    must(write(fd, "!", 1) == 1 && read(fd, &byte, 1) == 1);
    atomic_store(&churn.stop, true);
    for (size_t i = 0; i < array_length(readers); i++)
        pthread_join(readers[i], NULL);
    must(churn.read > 0);
    fixture_close(fixture);
    must(fixture->warning[0] == '\0');
}

static void reader_process_beside_a_writer_sees_whole_versions(void **state)
{
    struct fixture *fixture = *state;
    int ends[2], status;
    char byte;
    fixture_close(fixture);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        read_beside(fixture, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    fixture->options.sync = true; /* others see what is committed */
    fixture_open(fixture);
    struct churn churn = {.store = fixture->store};
    pthread_rwlock_init(&churn.directory, NULL);
    replace_often(&churn);
    pthread_rwlock_destroy(&churn.directory);
    assert_int_equal(write(ends[0], "!", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(content_of_all_sizes_is_read_at_all_offsets),
        test_with_store(read_of_many_extents_comes_in_one_call),
        test_with_store(behind_the_end_there_is_nothing),
        test_with_store(what_is_no_content_is_refused),
        test_with_store(target_of_every_length_is_read),
        test_with_store(damage_is_eio),
        test_with_store(readers_see_whole_versions_under_replacement),
        test_with_store(reader_process_beside_a_writer_sees_whole_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
