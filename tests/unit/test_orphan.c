/* SPDX-License-Identifier: BSD-2-Clause */
/* Orphans: the table, and what is removed when, and when not. */
#include "support.h"

#include "store/keeper.h"
#include "store/orphan.h"
#include "store/pending.h"
#include "store/reap.h"

static void table_keeps_id_and_reason(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct view *view = begin_change(store);
    uint64_t id = 0;
    enum layout_orphan why;
    assert_int_equal(orphan_get(store, view, 100), 0);
    assert_int_equal(orphan_next(store, view, 0, &id, &why), -ENOENT);
    assert_int_equal(orphan_remove(store, view, 100), 0);

    assert_int_equal(orphan_add(store, view, 300, LAYOUT_ORPHAN_CONTENT), 0);
    assert_int_equal(orphan_add(store, view, 100, LAYOUT_ORPHAN_RECORD), 0);
    assert_int_equal(orphan_add(store, view, 100, LAYOUT_ORPHAN_RECORD), 0);
    assert_int_equal(orphan_get(store, view, 100), LAYOUT_ORPHAN_RECORD);
    assert_int_equal(orphan_get(store, view, 300), LAYOUT_ORPHAN_CONTENT);
    assert_int_equal(orphan_get(store, view, 200), 0);

    assert_int_equal(orphan_next(store, view, 0, &id, &why), 0);
    assert_int_equal(id, 100);
    assert_int_equal(why, LAYOUT_ORPHAN_RECORD);
    assert_int_equal(orphan_next(store, view, 101, &id, &why), 0);
    assert_int_equal(id, 300);
    assert_int_equal(why, LAYOUT_ORPHAN_CONTENT);
    assert_int_equal(orphan_next(store, view, 301, &id, &why), -ENOENT);

    assert_int_equal(orphan_remove(store, view, 100), 0);
    assert_int_equal(orphan_get(store, view, 100), 0);
    abort_change(view);
}

static void damaged_entry_is_eio(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t big = htobe64(100), id;
    enum layout_orphan why;
    MDB_val k = {sizeof(big), &big}, v = {2, (void *)"xy"};
    struct view *view = begin_change(store);
    assert_int_equal(mdb_put(view->txn, store->tables.orphans, &k, &v, 0), 0);
    assert_int_equal(orphan_get(store, view, 100), -EIO);
    assert_int_equal(orphan_next(store, view, 0, &id, &why), -EIO);
    abort_change(view);
}

/* ------------------------------------------------------------------- removal -- */

static uint64_t extents(struct store *store)
{
    struct store_stat stat;
    must(store_sync(store) == 0);
    must(store_stat(store, false, &stat) == 0);
    return stat.extents;
}

static bool no_orphans(void *arg)
{
    struct store_stat stat;
    must(store_sync(arg) == 0);
    must(store_stat(arg, false, &stat) == 0);
    return stat.orphans == 0;
}

static bool is_gone(struct store *store, uint64_t id)
{
    struct store_attr attr;
    return store_getattr(store, id, &attr) == -ENOENT;
}

static void record_without_lease_goes_with_its_last_name(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t sizes[] = {0, 100, 1927, 4081, 1 << 20};
    for (size_t i = 0; i < array_length(sizes); i++) {
        char *bytes = random_bytes(i, sizes[i]);
        struct store_attr attr;
        uint64_t id = write_file(store, STORE_ROOT_ID, "a", bytes, sizes[i]);
        assert_int_equal(store_link(store, id, STORE_ROOT_ID, "b", &attr), 0);
        assert_int_equal(attr.nlink, 2);
        assert_int_equal(store_unlink(store, STORE_ROOT_ID, "a"), 0);
        assert_int_equal(attr_of(store, id).nlink, 1);
        assert_true(holds(store, id, bytes, sizes[i]));
        assert_int_equal(store_unlink(store, STORE_ROOT_ID, "b"), 0);
        assert_true(wait_for(no_orphans, store));
        assert_true(is_gone(store, id));
        assert_int_equal(extents(store), 0);
        free(bytes);
    }
}

static void record_under_lease_stays_until_the_last_drop(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(5, 300000);
    uint64_t id = write_file(store, STORE_ROOT_ID, "a", bytes, 300000);
    assert_int_equal(store_lease(store, id), 0);
    assert_int_equal(store_lease(store, id), 0);
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "a"), 0);
    assert_int_equal(attr_of(store, id).nlink, 0);
    store_lease_drop(store, id, 1);
    /* What is removed behind our backs is removed before this is. */
    uint64_t other = write_file(store, STORE_ROOT_ID, "b", "x", 1);
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "b"), 0);
    while (!is_gone(store, other))
        sched_yield();
    assert_true(holds(store, id, bytes, 300000));

    store_lease_drop(store, id, 1);
    assert_true(wait_for(no_orphans, store));
    assert_true(is_gone(store, id));
    assert_int_equal(extents(store), 0);
    free(bytes);
}

static void replaced_record_stays_for_its_lease(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *old = random_bytes(6, 200000), *new = random_bytes(7, 200001);
    uint64_t id = write_file(store, STORE_ROOT_ID, "a", old, 200000);
    assert_int_equal(store_lease(store, id), 0);
    uint64_t next = write_file(store, STORE_ROOT_ID, "a", new, 200001);
    assert_int_not_equal(id, next);
    assert_int_equal(id_of(store, STORE_ROOT_ID, "a"), next);
    assert_true(holds(store, id, old, 200000));
    assert_true(holds(store, next, new, 200001));
    store_lease_drop(store, id, 1);
    assert_true(wait_for(no_orphans, store));
    assert_true(is_gone(store, id));
    assert_true(holds(store, next, new, 200001));
    free(old);
    free(new);
}

static void *sync_store(void *arg)
{
    must(store_sync(arg) == 0);
    return NULL;
}

struct look {
    struct store *store;
    uint64_t id;
    bool frozen; /* out */
};

static int look_whether_frozen(struct view *view, void *arg)
{
    (void)view;
    struct look *look = arg;
    uint64_t big = htobe64(look->id);
    MDB_val k = {sizeof(big), &big};
    look->frozen = pending_is_frozen(look->store->pending, look->store->tables.records, &k);
    return 0;
}

static bool is_being_committed(void *arg)
{
    struct look *look = arg;
    must(store_change(look->store, look_whether_frozen, look) == 0);
    return look->frozen;
}

static bool look_is_gone(void *arg)
{
    struct look *look = arg;
    return is_gone(look->store, look->id);
}

static void one_that_is_being_committed_keeps_no_other_waiting(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(8, 300000);
    struct view *view = begin_change(store); /* commits don't end now */
    struct look first = {store, write_file(store, STORE_ROOT_ID, "a", bytes, 300000), false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sync_store, store), 0);
    assert_true(wait_for(is_being_committed, &first));
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "a"), 0);
    struct look other = {store, write_file(store, STORE_ROOT_ID, "b", bytes, 300000), false};
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "b"), 0);
    assert_true(wait_for(look_is_gone, &other));
    assert_true(holds(store, first.id, bytes, 300000));

    abort_change(view);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(wait_for(no_orphans, store));
    assert_true(is_gone(store, first.id));
    assert_int_equal(extents(store), 0);
    free(bytes);
}

static void removed_directory_stays_for_its_lease(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t id = make_directory(store, STORE_ROOT_ID, "d");
    assert_int_equal(store_lease(store, id), 0);
    assert_int_equal(store_rmdir(store, STORE_ROOT_ID, "d"), 0);
    assert_int_equal(attr_of(store, id).nlink, 0);
    assert_int_equal(store_create(store, id, "x", &OWNER_FILE, &attr), -ENOENT);
    assert_int_equal(store_mkdir(store, id, "x", &OWNER_DIR, &attr), -ENOENT);
    assert_int_equal(store_symlink(store, id, "x", "y", &OWNER_FILE, &attr), -ENOENT);
    uint64_t file = write_file(store, STORE_ROOT_ID, "f", "x", 1);
    assert_int_equal(store_link(store, file, id, "x", &attr), -ENOENT);
    assert_int_equal(store_rename(store, STORE_ROOT_ID, "f", id, "x", 0), -ENOENT);
    store_lease_drop(store, id, 1);
    assert_true(wait_for(no_orphans, store));
    assert_true(is_gone(store, id));
}

static void unsealed_orphan_takes_its_host_file_along(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "bytes", 5);
    assert_int_equal(store_fsync(store, id, false), 0);
    assert_int_equal(examine(store).staged_files, 1);
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "a"), 0);
    assert_true(wait_for(no_orphans, store));
    fixture_reopen(*state); /* waits for what follows the transaction */
    store = ((struct fixture *)*state)->store;
    assert_true(is_gone(store, id));
    assert_int_equal(examine(store).staged_files, 0);
}

/* Larger than what one transaction removes. */
static void large_orphan_goes_in_several_transactions(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 30 << 20;
    char *bytes = random_bytes(8, size);
    (void)write_file(store, STORE_ROOT_ID, "a", bytes, size);
    uint64_t small = write_file(store, STORE_ROOT_ID, "b", bytes, 5000);
    assert_int_equal(extents(store), 30 + 1); /* of 1 MiB */
    struct store_stat before, after;
    assert_int_equal(store_stat(store, false, &before), 0);
    assert_int_equal(store_unlink(store, STORE_ROOT_ID, "a"), 0);
    assert_true(wait_for(no_orphans, store));
    assert_int_equal(store_stat(store, false, &after), 0);
    assert_int_equal(after.extents, 1);
    assert_in_range(after.commits - before.commits, 4, 8);
    assert_true(holds(store, small, bytes, 5000));
    free(bytes);
}

/* Pages come back: as much again, and the file is no larger. */
static void pages_of_orphans_are_used_again(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 2 << 20;
    char *bytes = random_bytes(9, size);
    uint64_t first = 0;
    for (unsigned i = 0; i < 30; i++) {
        (void)write_file(store, STORE_ROOT_ID, "a", bytes, size);
        assert_true(wait_for(no_orphans, store));
        struct store_stat stat;
        assert_int_equal(store_stat(store, false, &stat), 0);
        if (i == 5)
            first = stat.file_bytes;
        if (i > 5)
            assert_true(stat.file_bytes <= first * 3 / 2);
    }
    free(bytes);
}

static void many_orphans_go_at_once(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char bytes[3000] = {1};
    for (unsigned i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%u", i);
        uint64_t id = write_file(store, STORE_ROOT_ID, name, bytes, i % 2 == 0 ? 10 : 3000);
        assert_int_equal(store_lease(store, id), 0);
        assert_int_equal(store_unlink(store, STORE_ROOT_ID, name), 0);
    }
    assert_int_equal(examine(store).orphans, 300);
    uint64_t ids[300];
    size_t count = 0;
    struct view *view = begin_read(store);
    enum layout_orphan why;
    for (uint64_t from = 0; orphan_next(store, view, from, &ids[count], &why) == 0; count++)
        from = ids[count] + 1;
    end_read(store, view);
    assert_int_equal(count, 300);
    /* All but one are let go. */
    for (size_t i = 1; i < count; i++)
        store_lease_drop(store, ids[i], 1);
    assert_int_equal(reap_all(store), 0);
    assert_int_equal(examine(store).orphans, 1);
    assert_false(is_gone(store, ids[0]));
    store_lease_drop(store, ids[0], 1);
    assert_true(wait_for(no_orphans, store));
}

static void reap_leaves_what_is_no_orphan(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t ids[3] = {write_file(store, STORE_ROOT_ID, "a", "x", 1), 123456, STORE_ROOT_ID};
    assert_int_equal(reap(store, ids, 3), 0);
    assert_true(holds(store, ids[0], "x", 1));
    assert_int_equal(reap(store, ids, 0), 0);
}

/* Without a name from the start, and given one later, or not. */
static void tmpfile_is_an_orphan_until_it_is_linked(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    struct store_attr kept, lost;
    assert_int_equal(store_tmpfile(store, STORE_ROOT_ID, &OWNER_FILE, &kept), 0);
    assert_int_equal(store_tmpfile(store, STORE_ROOT_ID, &OWNER_FILE, &lost), 0);
    assert_int_equal(kept.nlink, 0);
    assert_int_equal(store_write(store, kept.id, "kept", 4, 0), 4);
    assert_int_equal(store_write(store, lost.id, "lost", 4, 0), 4);
    assert_int_equal(examine(store).orphans, 2);
    assert_int_equal(store_link(store, kept.id, STORE_ROOT_ID, "k", &kept), 0);
    assert_int_equal(kept.nlink, 1);
    assert_int_equal(store_seal(store, kept.id), 0);
    fixture_reopen(fixture);
    store = fixture->store;
    assert_true(is_gone(store, lost.id));
    assert_true(holds(store, id_of(store, STORE_ROOT_ID, "k"), "kept", 4));
    assert_int_equal(examine(store).staged_files, 0);
}

static bool one_orphan(void *arg)
{
    struct store_stat stat;
    must(store_stat(arg, false, &stat) == 0);
    return stat.orphans == 1;
}

/* The queue of what is to be removed is bounded: what it has no room for is found nevertheless,
 * and what is just being made is left alone. */
static void storm_of_removals_forgets_nothing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr made;
    assert_int_equal(store_tmpfile(store, STORE_ROOT_ID, &OWNER_FILE, &made), 0);
    uint64_t ids[3];
    for (size_t i = 0; i < array_length(ids); i++) {
        char name[] = {(char)('a' + i), '\0'};
        ids[i] = write_file(store, STORE_ROOT_ID, name, "content", 7);
        assert_int_equal(store_lease(store, ids[i]), 0);
        assert_int_equal(store_unlink(store, STORE_ROOT_ID, name), 0);
    }
    assert_int_equal(examine(store).orphans, 4);
    struct view *view = begin_change(store); /* nothing can be removed meanwhile */
    for (unsigned i = 0; i < 40000; i++)
        keeper_reap(store->keeper, 1000000 + i);
    for (size_t i = 0; i < array_length(ids); i++)
        store_lease_drop(store, ids[i], 1);
    abort_change(view);
    assert_true(wait_for(one_orphan, store));
    for (size_t i = 0; i < array_length(ids); i++)
        assert_true(is_gone(store, ids[i]));
    assert_int_equal(attr_of(store, made.id).nlink, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(table_keeps_id_and_reason),
        test_with_store(damaged_entry_is_eio),
        test_with_store(record_without_lease_goes_with_its_last_name),
        test_with_store(record_under_lease_stays_until_the_last_drop),
        test_with_store(replaced_record_stays_for_its_lease),
        test_with_store(one_that_is_being_committed_keeps_no_other_waiting),
        test_with_store(removed_directory_stays_for_its_lease),
        test_with_store(unsealed_orphan_takes_its_host_file_along),
        test_with_store(large_orphan_goes_in_several_transactions),
        test_with_store(pages_of_orphans_are_used_again),
        test_with_store(many_orphans_go_at_once),
        test_with_store(reap_leaves_what_is_no_orphan),
        test_with_store(storm_of_removals_forgets_nothing),
        test_with_store(tmpfile_is_an_orphan_until_it_is_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
