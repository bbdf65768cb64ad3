/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clones of a record's content. What can be tested depends on where TMPDIR lies: on a filesystem
 * that can't share blocks, that it says so; e2e/test_large.py runs this on those that can.
 */
#include "support.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include "store/extent.h"
#include "store/record.h"

#define ROOT STORE_ROOT_ID
#define EXTENT ((size_t)128 << 10)
#define XFS_MAGIC 0x58465342

static bool can_clone(struct store *store)
{
    char why[STORE_WHY_MAX];
    return store_can_clone(store, why) == 0;
}

#define need_clones(store)     \
    do {                       \
        if (!can_clone(store)) \
            skip();            \
    } while (0)

static void filesystems_are_known(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct statfs fs;
    struct store_clone clone;
    char why[STORE_WHY_MAX] = "";
    char *bytes = random_bytes(1, EXTENT);
    uint64_t id = write_file(store, ROOT, "a", bytes, EXTENT);
    assert_int_equal(fstatfs(store->dir_fd, &fs), 0);
    int r = store_can_clone(store, why);
    if (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC)
        assert_int_equal(r, -EOPNOTSUPP);
    if (fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == XFS_MAGIC)
        assert_int_equal(r, 0);
    assert_int_equal(why[0] == '\0', r == 0);
    assert_int_equal(store_clone(store, id, &clone), r);
    if (r == 0)
        close(clone.fd);
    assert_true(holds(store, id, bytes, EXTENT));
    free(bytes);
}

static void only_what_has_pages_of_its_own_is_cloned(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_clone clone;
    char *bytes = random_bytes(1, EXTENT);
    assert_int_equal(store_clone(store, ROOT, &clone), -EINVAL);
    assert_int_equal(store_clone(store, write_file(store, ROOT, "empty", bytes, 0), &clone),
                     -EINVAL);
    assert_int_equal(store_clone(store, write_file(store, ROOT, "inline", bytes, 1926), &clone),
                     -EINVAL);
    assert_int_equal(store_clone(store, write_file(store, ROOT, "packed", bytes, 4080), &clone),
                     -EINVAL);
    assert_int_equal(
        store_clone(store, write_unsealed(store, ROOT, "staged", bytes, EXTENT), &clone), -EINVAL);
    assert_int_equal(store_clone(store, 123456, &clone), -ENOENT);
    free(bytes);
}

static void assert_holds(const struct store_clone *clone, const char *bytes, size_t size)
{
    struct stat st;
    char *found = malloc(size + 1);
    assert_int_equal(fstat(clone->fd, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(clone->size, size);
    assert_int_equal(pread_fully(clone->fd, found, size + 1, 0), size);
    assert_memory_equal(found, bytes, size);
    free(found);
}

static void clone_has_the_content(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    need_clones(store);
    const size_t sizes[] = {
        4081,       4095,       4096,           4097,    EXTENT - 1,       EXTENT,
        EXTENT + 1, 3 * EXTENT, 3 * EXTENT + 7, 4 << 20, (4 << 20) + 4097, (17 << 20) + 1,
    };
    for (size_t i = 0; i < array_length(sizes); i++) {
        struct store_clone clone;
        char *bytes = random_bytes(i, sizes[i]);
        uint64_t id = write_file(store, ROOT, "a", bytes, sizes[i]);
        assert_int_equal(store_clone(store, id, &clone), 0);
        assert_false(clone.verified);
        assert_holds(&clone, bytes, sizes[i]);
        assert_int_equal(store_clone_verify(store, id, &clone, NULL, NULL), 0);
        close(clone.fd);
        assert_int_equal(store_clone(store, id, &clone), 0);
        assert_true(clone.verified);
        close(clone.fd);
        free(bytes);
    }
}

/* Also when LMDB has used the pages for something else. */
static void clone_outlives_its_record(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = 5 << 20;
    struct store_clone clone;
    char *bytes = random_bytes(1, size), *others = random_bytes(2, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    assert_int_equal(store_clone(store, id, &clone), 0);
    for (int i = 0; i < 8; i++)
        (void)write_file(store, ROOT, "a", others, size);
    assert_holds(&clone, bytes, size);
    fixture_close(fixture);
    assert_holds(&clone, bytes, size);
    fixture_open(fixture);
    close(clone.fd);
    free(bytes);
    free(others);
}

/* Where a byte of a content is in data.mdb, and its extent. */
static struct span span_at(struct store *store, uint64_t id, uint64_t offset)
{
    struct layout_record record;
    struct span span;
    assert_int_equal(store_sync(store), 0);
    struct view *view = begin_read(store);
    assert_int_equal(record_get(store, view, id, &record, NULL), 0);
    assert_int_equal(content_locate(store, view, record.link, record.size, offset, 1, &span, 1), 1);
    end_read(store, view);
    return span;
}

/* Twice: as it was. */
static void invert(struct store *store, off_t place)
{
    char byte;
    assert_int_equal(pread(env_fd(store->env), &byte, 1, place), 1);
    byte = (char)~byte;
    assert_int_equal(pwrite(env_fd(store->env), &byte, 1, place), 1);
}

static void rot(struct store *store, uint64_t id, uint64_t offset)
{
    invert(store, span_at(store, id, offset).offset);
}

/* Compare a clone of a damaged record: what the log says of it. */
static void assert_damaged(struct fixture *fixture, uint64_t id, const struct store_clone *clone,
                           const char *what, uint64_t extent)
{
    char expected[128];
    struct store_stat before, after;
    snprintf(expected, sizeof(expected), "damaged: %s in the extent at offset %zu ", what,
             (size_t)extent);
    assert_int_equal(store_stat(fixture->store, false, &before), 0);
    assert_int_equal(store_clone_verify(fixture->store, id, clone, NULL, NULL), -EIO);
    assert_int_equal(store_stat(fixture->store, false, &after), 0);
    assert_int_equal(after.damages, before.damages + 1);
    with_mutex(&fixture->lock);
    assert_non_null(strstr(fixture->warning, expected));
    fixture->warning[0] = '\0';
}

static void damage_is_named_and_remembered(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = 5 << 20;
    struct store_clone clone;
    char *bytes = random_bytes(1, size), expected[64];
    uint64_t id = write_file(store, ROOT, "rotten", bytes, size);
    const uint64_t place = (3 << 20) + 77;
    rot(store, id, place);
    assert_int_equal(store_clone(store, id, &clone), 0);
    assert_int_equal(store_clone_verify(store, id, &clone, NULL, NULL), -EIO);
    close(clone.fd);
    {
        with_mutex(&fixture->lock);
        size_t extent = extent_bytes(store, size);
        snprintf(expected, sizeof(expected), "offset %zu ", (size_t)place / extent * extent);
        assert_non_null(strstr(fixture->warning, "rotten"));
        assert_non_null(strstr(fixture->warning, expected));
        fixture->warning[0] = '\0';
    }
    assert_int_equal(store_clone(store, id, &clone), -EIO);
    rot(store, id, place); /* sound again, for the teardown */
    free(bytes);
}

/* Each thread compares a part of the content: none is left out. */
static void damage_is_found_anywhere(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = (17 << 20) + 1;
    const uint64_t places[] = {0, (4 << 20) - 1, 4 << 20, 9 << 20, (16 << 20) - 1, size - 1};
    char *bytes = random_bytes(1, size);
    for (size_t i = 0; i < array_length(places); i++) {
        struct store_clone clone;
        uint64_t id = write_file(store, ROOT, "a", bytes, size);
        uint64_t extent = span_at(store, id, places[i]).start;
        rot(store, id, places[i]);
        assert_int_equal(store_clone(store, id, &clone), 0);
        assert_damaged(fixture, id, &clone, "wrong bytes", extent);
        close(clone.fd);
        rot(store, id, places[i]);
    }
    free(bytes);
}

static void first_of_many_damages_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = 33 << 20;
    const uint64_t places[] = {30 << 20, 21 << 20, (9 << 20) + 5, 13 << 20, 10 << 20};
    struct store_clone clone;
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    for (size_t i = 0; i < array_length(places); i++)
        rot(store, id, places[i]);
    assert_int_equal(store_clone(store, id, &clone), 0);
    uint64_t extent = span_at(store, id, 9 << 20).start;
    for (int i = 0; i < 10; i++)
        assert_damaged(fixture, id, &clone, "wrong bytes", extent);
    close(clone.fd);
    for (size_t i = 0; i < array_length(places); i++)
        rot(store, id, places[i]);
    free(bytes);
}

/* It has the hash that the bytes are held against. */
static void damaged_header_is_damage(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = 9 << 20;
    struct store_clone clone;
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    struct span span = span_at(store, id, 5 << 20);
    off_t header = span.payload - (off_t)span.front;
    assert_int_equal(store_clone(store, id, &clone), 0);
    assert_int_equal(store_clone_verify(store, id, &clone, NULL, NULL), 0);
    invert(store, header + (off_t)offsetof(struct layout_extent, offset));
    assert_damaged(fixture, id, &clone, "a wrong header", span.start);
    invert(store, header + (off_t)offsetof(struct layout_extent, offset));
    invert(store, header + (off_t)offsetof(struct layout_extent, hash));
    assert_damaged(fixture, id, &clone, "wrong bytes", span.start);
    invert(store, header + (off_t)offsetof(struct layout_extent, hash));
    close(clone.fd);
    free(bytes);
}

struct verifier {
    struct store *store;
    uint64_t id;
    const struct store_clone *clone;
    int result;
    pthread_t thread;
};

static void *verify_some_times(void *arg)
{
    struct verifier *verifier = arg;
    for (int i = 0; i < 5 && verifier->result == 0; i++)
        verifier->result =
            store_clone_verify(verifier->store, verifier->id, verifier->clone, NULL, NULL);
    return NULL;
}

/* They share the few threads that help. */
static void many_verify_at_once(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    need_clones(store);
    const size_t size = 13 << 20;
    struct store_clone clone;
    struct verifier verifiers[6];
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    assert_int_equal(store_clone(store, id, &clone), 0);
    for (size_t i = 0; i < array_length(verifiers); i++) {
        verifiers[i] = (struct verifier){.store = store, .id = id, .clone = &clone};
        assert_int_equal(
            pthread_create(&verifiers[i].thread, NULL, verify_some_times, &verifiers[i]), 0);
    }
    for (size_t i = 0; i < array_length(verifiers); i++) {
        assert_int_equal(pthread_join(verifiers[i].thread, NULL), 0);
        assert_int_equal(verifiers[i].result, 0);
    }
    assert_int_equal(store->helpers, 0);
    close(clone.fd);
    free(bytes);
}

/* After so many questions. */
static bool stop_later(void *arg)
{
    _Atomic int *left = arg;
    return (*left)-- <= 0;
}

static void verifying_can_be_stopped(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    need_clones(store);
    const size_t size = 17 << 20;
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    for (int questions = 0; questions < 60; questions += 20) {
        _Atomic int left = questions;
        struct store_clone clone;
        assert_int_equal(store_clone(store, id, &clone), 0);
        assert_false(clone.verified);
        assert_int_equal(store_clone_verify(store, id, &clone, stop_later, &left), -EINTR);
        assert_int_equal(store->helpers, 0);
        close(clone.fd);
    }
    free(bytes);
}

static void what_is_gone_is_not_damaged(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    need_clones(store);
    const size_t size = 5 << 20;
    struct store_clone clone;
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    assert_int_equal(store_clone(store, id, &clone), 0);
    assert_int_equal(store_unlink(store, ROOT, "a"), 0);
    while (store_clone_verify(store, id, &clone, NULL, NULL) != -ENOENT)
        assert_int_equal(store_sync(store), 0); /* the keeper removes it */
    assert_string_equal(fixture->warning, "");
    close(clone.fd);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(filesystems_are_known),
        test_with_store(only_what_has_pages_of_its_own_is_cloned),
        test_with_store(clone_has_the_content),
        test_with_store(clone_outlives_its_record),
        test_with_store(damage_is_named_and_remembered),
        test_with_store(damage_is_found_anywhere),
        test_with_store(first_of_many_damages_is_named),
        test_with_store(damaged_header_is_damage),
        test_with_store(many_verify_at_once),
        test_with_store(verifying_can_be_stopped),
        test_with_store(what_is_gone_is_not_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
