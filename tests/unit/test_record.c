/* SPDX-License-Identifier: BSD-2-Clause */
/* Records: what is put is found, payloads of every inline size, and nonsense is refused. */
#include "support.h"

#include "store/record.h"

static struct layout_record record_of(mode_t mode, uint64_t size)
{
    return (struct layout_record){
        .mode = (uint16_t)mode,
        .uid = 1000,
        .gid = 2000,
        .nlink = 1,
        .size = size,
        .atime = {1, 2},
        .mtime = {-3, 999999999},
        .ctime = {INT64_MAX, 0},
        .btime = {7, 8},
    };
}

static void add(struct store *store, uint64_t id, const struct layout_record *record,
                const void *payload)
{
    struct view *view = begin_change(store);
    assert_int_equal(record_add(store, view, id, record, payload), 0);
    commit_change(store, view);
}

static void check(struct store *store, uint64_t id, const struct layout_record *record,
                  const void *payload, size_t size)
{
    struct layout_record found;
    MDB_val bytes;
    struct view *view = begin_read(store);
    assert_int_equal(record_get(store, view, id, &found, NULL), 0);
    assert_memory_equal(&found, record, sizeof(found));
    assert_int_equal(record_get(store, view, id, &found, &bytes), 0);
    assert_int_equal(bytes.mv_size, size);
    if (size > 0)
        assert_memory_equal(bytes.mv_data, payload, size);
    end_read(store, view);
}

static void payload_of_every_inline_size_is_kept(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char bytes[LAYOUT_INLINE_LIMIT];
    random_fill(1, bytes, sizeof(bytes));
    for (size_t size = 0; size <= store->inline_max; size += size < 4 || size > 1920 ? 1 : 191) {
        struct layout_record record = record_of(S_IFREG | 0644, size);
        add(store, 100 + size, &record, bytes + size % 7);
        check(store, 100 + size, &record, bytes + size % 7, size);
    }
    /* And all of them lie in leaves. */
    MDB_stat stat;
    struct view *view = begin_read(store);
    assert_int_equal(mdb_stat(view->txn, store->tables.records, &stat), 0);
    end_read(store, view);
    assert_int_equal(stat.ms_overflow_pages, 0);
}

static void only_inline_files_and_links_have_a_payload(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record directory = record_of(S_IFDIR | 0755, 0);
    struct layout_record link = record_of(S_IFLNK | 0777, 6);
    struct layout_record large = record_of(S_IFREG | 0644, 1 << 20);
    struct layout_record staged = record_of(S_IFREG | 0644, 0);
    directory.link = 77;
    large.place = LAYOUT_EXTENTS;
    large.link = 78;
    staged.place = LAYOUT_STAGED;
    add(store, 100, &directory, NULL);
    add(store, 101, &link, "target");
    add(store, 102, &large, NULL);
    add(store, 103, &staged, NULL);
    check(store, 100, &directory, NULL, 0);
    check(store, 101, &link, "target", 6);
    check(store, 102, &large, NULL, 0);
    check(store, 103, &staged, NULL, 0);
}

static void missing_record_is_enoent(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record record = record_of(S_IFREG, 0);
    struct view *view = begin_change(store);
    assert_int_equal(record_get(store, view, 100, &record, NULL), -ENOENT);
    assert_int_equal(record_update(store, view, 100, &record), -ENOENT);
    assert_int_equal(record_remove(store, view, 100), -ENOENT);
    assert_int_equal(record_get(store, view, 0, &record, NULL), -ENOENT);
    assert_int_equal(record_get(store, view, UINT64_MAX, &record, NULL), -ENOENT);
    commit_change(store, view);
}

static void id_is_added_once_and_in_any_order(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const uint64_t ids[] = {500, 400, 600, 450, (uint64_t)1 << 40, 255, 256};
    for (size_t i = 0; i < array_length(ids); i++) {
        struct layout_record record = record_of(S_IFREG, 3);
        add(store, ids[i], &record, "abc");
        struct view *view = begin_change(store);
        assert_int_equal(record_add(store, view, ids[i], &record, "xyz"), -EEXIST);
        commit_change(store, view);
        check(store, ids[i], &record, "abc", 3);
    }
}

static void update_keeps_the_payload(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char bytes[LAYOUT_INLINE_LIMIT];
    random_fill(2, bytes, sizeof(bytes));
    struct layout_record record = record_of(S_IFREG | 0644, store->inline_max);
    add(store, 100, &record, bytes);
    for (uint64_t id = 101; id < 110; id++) /* so that updates move it about in its page */
        add(store, id, &record, bytes + id);
    record.mode = S_IFREG | 0600;
    record.nlink = 5;
    struct view *view = begin_change(store);
    assert_int_equal(record_update(store, view, 105, &record), 0);
    assert_int_equal(record_update(store, view, 100, &record), 0);
    commit_change(store, view);
    check(store, 100, &record, bytes, store->inline_max);
    check(store, 105, &record, bytes + 105, store->inline_max);
}

static void replace_gives_another_payload(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record staged = record_of(S_IFREG | 0644, 0);
    staged.place = LAYOUT_STAGED;
    staged.flags = LAYOUT_HELD;
    add(store, 100, &staged, NULL);
    const size_t sizes[] = {0, 1, 1926, 700, 0};
    char bytes[1926];
    random_fill(3, bytes, sizeof(bytes));
    for (size_t i = 0; i < array_length(sizes); i++) {
        struct layout_record record = record_of(S_IFREG | 0644, sizes[i]);
        struct view *view = begin_change(store);
        assert_int_equal(record_replace(store, view, 100, &record, bytes), 0);
        commit_change(store, view);
        check(store, 100, &record, bytes, sizes[i]);
    }
}

static void removed_record_is_gone(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record record = record_of(S_IFREG, 0);
    add(store, 100, &record, NULL);
    add(store, 101, &record, NULL);
    struct view *view = begin_change(store);
    assert_int_equal(record_remove(store, view, 100), 0);
    assert_int_equal(record_get(store, view, 100, &record, NULL), -ENOENT);
    assert_int_equal(record_get(store, view, 101, &record, NULL), 0);
    commit_change(store, view);
}

static void walk_finds_all_in_order(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record record = record_of(S_IFREG, 0);
    const uint64_t ids[] = {STORE_ROOT_ID, STORE_STAGING_ID, 100, 200, 256, 1 << 20, INT64_MAX};
    for (size_t i = 2; i < array_length(ids); i++)
        add(store, ids[i], &record, NULL);
    struct view *view = begin_read(store);
    uint64_t id = 0;
    for (size_t i = 0; i < array_length(ids); i++) {
        assert_int_equal(record_next(store, view, id, &id, &record), 0);
        assert_int_equal(id, ids[i]);
        id++;
    }
    assert_int_equal(record_next(store, view, id, &id, &record), -ENOENT);
    end_read(store, view);
}

/* ------------------------------------------------------------------- damage -- */

static void put_raw(struct store *store, uint64_t id, const void *bytes, size_t size)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big}, v = {size, (void *)bytes};
    struct view *view = begin_change(store);
    assert_int_equal(mdb_put(view->txn, store->tables.records, &k, &v, 0), 0);
    commit_change(store, view);
}

static void check_refused(struct store *store, const void *bytes, size_t size)
{
    struct layout_record record;
    struct store_attr attr;
    uint64_t id = 0;
    char buffer[8];
    put_raw(store, 100, bytes, size);
    struct view *view = begin_read(store);
    assert_int_equal(record_get(store, view, 100, &record, NULL), -EIO);
    assert_int_equal(record_next(store, view, 50, &id, &record), -EIO);
    end_read(store, view);
    assert_int_equal(id, 100);
    assert_int_equal(store_getattr(store, 100, &attr), -EIO);
    assert_int_equal(store_read(store, 100, buffer, sizeof(buffer), 0), -EIO);
    view = begin_change(store);
    assert_int_equal(record_update(store, view, 100, &record), -EIO);
    abort_change(view);
}

static void record_that_makes_no_sense_is_eio(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char bytes[200] = {0};
    struct layout_record good = record_of(S_IFREG | 0644, 3), bad;
    check_refused(store, bytes, 1);
    check_refused(store, bytes, sizeof(good) - 1);
    check_refused(store, bytes, sizeof(good)); /* mode 0 */

    memcpy(bytes, &good, sizeof(good));
    check_refused(store, bytes, sizeof(good) + 2);
    check_refused(store, bytes, sizeof(good) + 4);
    bad = good;
    bad.place = 3;
    memcpy(bytes, &bad, sizeof(bad));
    check_refused(store, bytes, sizeof(good) + 3);
    bad = good;
    bad.mode = S_IFSOCK | 0644;
    memcpy(bytes, &bad, sizeof(bad));
    check_refused(store, bytes, sizeof(good) + 3);
    bad = good;
    bad.size = UINT64_MAX;
    bad.place = LAYOUT_EXTENTS;
    memcpy(bytes, &bad, sizeof(bad));
    check_refused(store, bytes, sizeof(good));
}

/* --------------------------------------------------------------- attributes -- */

static void attributes_say_what_the_record_says(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layout_record record = record_of(S_IFREG | 0664, 100);
    struct store_attr attr;
    memset(record.hash, 9, sizeof(record.hash));
    record.nlink = 3;
    record_attr(store, 100, &record, &attr);
    assert_int_equal(attr.id, 100);
    assert_int_equal(attr.full_mode, S_IFREG | 0664);
    assert_int_equal(attr.mode, S_IFREG | 0444);
    assert_int_equal(attr.uid, 1000);
    assert_int_equal(attr.gid, 2000);
    assert_int_equal(attr.nlink, 3);
    assert_int_equal(attr.size, 100);
    assert_int_equal(attr.atime.tv_sec, 1);
    assert_int_equal(attr.atime.tv_nsec, 2);
    assert_int_equal(attr.mtime.tv_sec, -3);
    assert_int_equal(attr.mtime.tv_nsec, 999999999);
    assert_true(attr.ctime.tv_sec == INT64_MAX);
    assert_int_equal(attr.btime.tv_sec, 7);
    assert_int_equal(attr.parent, 0);
    assert_true(attr.sealed);
    assert_false(attr.held);
    assert_memory_equal(attr.hash, record.hash, 16);
}

static void only_sealed_files_with_content_lose_their_write_bits(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    struct layout_record record = record_of(S_IFREG | 0777, 1);
    record_attr(store, 100, &record, &attr);
    assert_int_equal(attr.mode, S_IFREG | 0555);
    record.size = 0;
    record_attr(store, 100, &record, &attr);
    assert_int_equal(attr.mode, S_IFREG | 0777);
    assert_true(attr.sealed);
    record.place = LAYOUT_STAGED;
    record.flags = LAYOUT_HELD;
    record_attr(store, 100, &record, &attr);
    assert_int_equal(attr.mode, S_IFREG | 0777);
    assert_false(attr.sealed);
    assert_true(attr.held);
    record = record_of(S_IFDIR | 01777, 0);
    record.link = 55;
    record_attr(store, 100, &record, &attr);
    assert_int_equal(attr.mode, S_IFDIR | 01777);
    assert_int_equal(attr.parent, 55);
    assert_false(attr.sealed);
}

static void blocks_are_what_the_store_gives(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    const struct {
        uint64_t size, blocks;
    } expected[] = {{0, 1}, {417, 2}, {1926, 4}, {1927, 8}, {4096, 8}, {4097, 16}, {1 << 20, 2048}};
    for (size_t i = 0; i < array_length(expected); i++) {
        struct layout_record record = record_of(S_IFREG, expected[i].size);
        record.place = expected[i].size > store->inline_max ? LAYOUT_EXTENTS : LAYOUT_INLINE;
        record_attr(store, 100, &record, &attr);
        assert_int_equal(attr.blocks, expected[i].blocks);
    }
}

/* Records without names are no sound tree: the examination is not for them. */
static int teardown(void **state)
{
    fixture_close(*state);
    return fixture_teardown(state);
}

int main(void)
{
#define test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        test(payload_of_every_inline_size_is_kept),
        test(only_inline_files_and_links_have_a_payload),
        test(missing_record_is_enoent),
        test(id_is_added_once_and_in_any_order),
        test(update_keeps_the_payload),
        test(replace_gives_another_payload),
        test(removed_record_is_gone),
        test(walk_finds_all_in_order),
        test(record_that_makes_no_sense_is_eio),
        test(attributes_say_what_the_record_says),
        test(only_sealed_files_with_content_lose_their_write_bits),
        test(blocks_are_what_the_store_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
