/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes are visible before they are committed, in their order, and all or nothing. */
#include "support.h"

#include "store/entry.h"
#include "store/pending.h"
#include "store/tree.h"

#define ROOT STORE_ROOT_ID

/* So that nothing is committed but by being asked for. */
static int setup(void **state)
{
    int r = fixture_setup_empty(state);
    struct fixture *fixture = *state;
    fixture->options.create = true;
    fixture->options.commit_ms = 1000000;
    fixture_open(fixture);
    return r;
}

static uint64_t commits(struct store *store)
{
    struct store_stat stat;
    must(store_stat(store, false, &stat) == 0);
    return stat.commits;
}

/* What a reader in another process would find. */
static bool is_committed(struct store *store, const char *name)
{
    cleanup_view struct view view = {0};
    struct entry entry;
    must(view_open_committed(store, &view) == 0);
    return entry_get(store, &view, ROOT, name, &entry) == 0;
}

static void visible_first_and_committed_later(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t before = commits(store);
    uint64_t id = write_file(store, ROOT, "a", "content", 7);
    assert_int_equal(id_of(store, ROOT, "a"), id);
    assert_true(holds(store, id, "content", 7));
    assert_false(is_committed(store, "a"));
    assert_int_equal(commits(store), before);
    assert_int_equal(store_sync(store), 0);
    assert_true(is_committed(store, "a"));
    assert_int_equal(commits(store), before + 1);
    assert_true(holds(store, id, "content", 7));
    assert_int_equal(store_sync(store), 0); /* nothing to do */
    assert_int_equal(commits(store), before + 1);
}

static void what_comes_and_goes_is_never_committed(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (int i = 0; i < 100; i++) {
        uint64_t id = write_file(store, ROOT, "temporary", &i, sizeof(i));
        assert_int_equal(store_rename(store, ROOT, "temporary", ROOT, "name", 0), 0);
        assert_true(holds(store, id, &i, sizeof(i)));
    }
    assert_int_equal(store_sync(store), 0);
    assert_false(is_committed(store, "temporary"));
    assert_true(is_committed(store, "name"));
}

static int fail_late(struct view *view, void *arg)
{
    struct store *store = arg;
    const struct entry entry = {ROOT, S_IFDIR};
    must(entry_put(store, view, ROOT, "half", &entry) == 0);
    must(entry_remove(store, view, ROOT, "whole") == 0);
    struct entry found;
    must(entry_get(store, view, ROOT, "half", &found) == 0); /* it sees itself */
    return -EXDEV;
}

static void change_that_fails_leaves_nothing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_file(store, ROOT, "whole", "x", 1);
    assert_int_equal(store_change(store, fail_late, store), -EXDEV);
    assert_int_equal(id_of(store, ROOT, "half"), 0);
    assert_int_equal(id_of(store, ROOT, "whole"), id);
    assert_int_equal(store_sync(store), 0);
    assert_false(is_committed(store, "half"));
    assert_true(is_committed(store, "whole"));
}

#define NAMES 40

static bool count_name(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                       const struct store_attr *attr)
{
    (void)name, (void)id, (void)type, (void)next, (void)attr;
    ++*(unsigned *)arg;
    return true;
}

/* Some committed, some pending, some removed again. */
static void listing_has_what_is_visible(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char name[16];
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(name, sizeof(name), "%u", i);
        write_file(store, ROOT, name, "x", 1);
        if (i == NAMES / 2)
            assert_int_equal(store_sync(store), 0);
    }
    for (unsigned i = 0; i < NAMES; i += 4) {
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(store_unlink(store, ROOT, name), 0);
    }
    for (int synced = 0; synced < 2; synced++) {
        unsigned count = 0;
        assert_int_equal(store_readdir(store, ROOT, 0, true, count_name, &count), 0);
        assert_int_equal(count, NAMES - NAMES / 4);
        assert_int_equal(store_sync(store), 0);
    }
}

static void large_content_is_read_from_where_it_is(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t sizes[] = {1927, 5000, 70000, 300000, (size_t)9 << 20};
    for (size_t i = 0; i < array_length(sizes); i++) {
        char *bytes = random_bytes(i, sizes[i]);
        uint64_t id = write_file(store, ROOT, "a", bytes, sizes[i]);
        assert_true(attr_of(store, id).sealed);
        assert_false(attr_of(store, id).hashed);
        assert_true(holds(store, id, bytes, sizes[i]));
        assert_int_equal(store_sync(store), 0);
        assert_true(attr_of(store, id).hashed);
        assert_true(holds(store, id, bytes, sizes[i]));
        free(bytes);
    }
}

static int note_committed(void *arg)
{
    struct store *store = arg;
    struct pending_stat stat;
    pending_stat(store->pending, &stat);
    return stat.changes == stat.committed ? 0 : -EBUSY;
}

static void *write_many(void *arg)
{
    struct store *store = arg;
    for (int i = 0; i < 200; i++)
        (void)write_file(store, ROOT, "busy", &i, sizeof(i));
    return NULL;
}

/* However busy others are. */
static void who_excludes_others_finds_nothing_pending(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    pthread_t writer;
    must(pthread_create(&writer, NULL, write_many, store) == 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(pending_exclude(store->pending, note_committed, store), 0);
    pthread_join(writer, NULL);
}

int main(void)
{
#define test(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        test(visible_first_and_committed_later),
        test(what_comes_and_goes_is_never_committed),
        test(change_that_fails_leaves_nothing),
        test(listing_has_what_is_visible),
        test(large_content_is_read_from_where_it_is),
        test(who_excludes_others_finds_nothing_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
