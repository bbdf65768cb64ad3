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

/* With `sync`, after a change: whether it was worth a commit. */
static bool has_committed(struct store *store, uint64_t *before)
{
    uint64_t now = commits(store);
    bool more = now > *before;
    *before = now;
    return more;
}

static void set_mode(struct store *store, uint64_t id)
{
    const struct store_attr wanted = {.mode = 0600};
    struct store_attr now;
    must(store_setattr(store, id, STORE_SET_MODE, &wanted, &now) == 0);
}

/* A file, written, closed, renamed, changed and removed, and a directory likewise. In the staging
 * directory nothing of that is published. */
static void work_in(struct store *store, uint64_t parent, bool published)
{
    struct store_attr attr, other;
    uint64_t before = commits(store);
    must(store_create(store, parent, "temporary", &OWNER_FILE, &attr) == 0);
    must(store_write(store, attr.id, "content", 7, 0) == 7);
    set_mode(store, attr.id);
    if (published)
        must(store_seal(store, attr.id) == 0);
    assert_false(has_committed(store, &before));
    must(store_rename(store, parent, "temporary", parent, "name", 0) == 0);
    assert_int_equal(has_committed(store, &before), published);
    assert_int_equal(is_committed(store, "name"), published);
    must(store_link(store, attr.id, parent, "link", &other) == 0);
    assert_int_equal(has_committed(store, &before), published);
    set_mode(store, attr.id);
    assert_int_equal(has_committed(store, &before), published);
    must(store_mkdir(store, parent, "directory", &OWNER_DIR, &attr) == 0);
    assert_int_equal(has_committed(store, &before), published);
    set_mode(store, attr.id);
    assert_int_equal(has_committed(store, &before), published);
    must(store_symlink(store, parent, "symlink", "target", &OWNER_FILE, &attr) == 0);
    assert_int_equal(has_committed(store, &before), published);
    must(store_unlink(store, parent, "name") == 0);
    assert_int_equal(has_committed(store, &before), published);
    must(store_rmdir(store, parent, "directory") == 0);
    assert_int_equal(has_committed(store, &before), published);
}

static void open_with_sync(struct fixture *fixture)
{
    fixture->options.sync = true;
    fixture_reopen(fixture);
}

static void what_is_published_waits_with_sync(void **state)
{
    struct fixture *fixture = *state;
    open_with_sync(fixture);
    work_in(fixture->store, ROOT, true);
}

static void what_is_staged_does_not(void **state)
{
    struct fixture *fixture = *state;
    open_with_sync(fixture);
    work_in(fixture->store, STORE_STAGING_ID, false);
}

/* Out of the staging directory and into it; and what is done behind a move shares its commit. */
static void moves_between_wait_with_sync(void **state)
{
    struct fixture *fixture = *state;
    open_with_sync(fixture);
    struct store *store = fixture->store;
    uint64_t before = commits(store);
    write_file(store, STORE_STAGING_ID, "a", "content", 7);
    assert_false(has_committed(store, &before));
    must(store_rename(store, STORE_STAGING_ID, "a", ROOT, "a", 0) == 0);
    assert_true(has_committed(store, &before));
    must(store_rename(store, ROOT, "a", STORE_STAGING_ID, "a", 0) == 0);
    assert_true(has_committed(store, &before));
    must(store_rename(store, STORE_STAGING_ID, "a", ROOT, "a", STORE_RENAME_UNSETTLED) == 0);
    assert_false(has_committed(store, &before));
    assert_int_equal(store_settle(store), 0);
    assert_true(is_committed(store, "a"));
    assert_int_equal(commits(store), before + 1);
}

/* Nobody waits for the commit of a file that is sealed under its name, but it begins. */
static void sealing_hurries_with_sync(void **state)
{
    struct fixture *fixture = *state;
    open_with_sync(fixture);
    struct store *store = fixture->store;
    struct store_attr attr;
    must(store_create(store, ROOT, "a", &OWNER_FILE, &attr) == 0);
    must(store_writer_open(store, attr.id) == 0);
    must(store_write(store, attr.id, "content", 7, 0) == 7);
    assert_false(is_committed(store, "a"));
    store_writer_close(store, attr.id);
    for (int i = 0; i < 10000 && !is_committed(store, "a"); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_true(is_committed(store, "a"));
    assert_true(attr_of(store, attr.id).sealed);
}

#define TOGETHER 8

/* A file of zeros that is not sealed yet. */
static uint64_t make_large(struct store *store, const char *name)
{
    uint64_t id = write_unsealed(store, ROOT, name, "", 0);
    struct store_attr attr = {.size = 40 << 20};
    must(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr) == 0);
    return id;
}

static bool is_first_committed(void *arg)
{
    return is_committed(arg, "first");
}

static void much_that_is_sealed_is_committed_before_there_is_more(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t before = commits(store);
    uint64_t first = make_large(store, "first"), second = make_large(store, "second");
    store_pace(store, first);
    assert_int_equal(store_seal(store, first), 0);
    store_pace(store, second);
    assert_int_equal(store_seal(store, second), 0);
    store_pace(store, write_unsealed(store, ROOT, "small", "x", 1));
    assert_int_equal(commits(store), before);

    uint64_t third = make_large(store, "third");
    store_pace(store, third);
    assert_int_equal(store_seal(store, third), 0); /* it is not in that commit */
    assert_true(wait_for(is_first_committed, store));
    assert_true(attr_of(store, first).hashed);
    assert_false(attr_of(store, third).hashed);
}

struct publisher {
    pthread_t thread;
    struct store *store;
    char name[16];
};

static void *publish_one(void *arg)
{
    struct publisher *publisher = arg;
    (void)make_directory(publisher->store, ROOT, publisher->name);
    return NULL;
}

/* While a commit is held up all others gather for the next one. */
static void those_who_wait_share_a_commit(void **state)
{
    struct fixture *fixture = *state;
    open_with_sync(fixture);
    struct store *store = fixture->store;
    struct publisher publishers[TOGETHER];
    uint64_t before = commits(store);
    struct view *held_up = begin_change(store);
    for (int i = 0; i < TOGETHER; i++) {
        publishers[i].store = store;
        snprintf(publishers[i].name, sizeof(publishers[i].name), "%d", i);
        must(pthread_create(&publishers[i].thread, NULL, publish_one, &publishers[i]) == 0);
    }
    struct pending_stat stat = {0};
    for (int i = 0; i < 10000 && stat.changes < TOGETHER; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pending_stat(store->pending, &stat);
    }
    assert_int_equal(stat.changes, TOGETHER);
    assert_int_equal(stat.committed, 0);
    abort_change(held_up);
    for (int i = 0; i < TOGETHER; i++)
        pthread_join(publishers[i].thread, NULL);
    assert_in_range(commits(store), before + 1, before + 2);
    for (int i = 0; i < TOGETHER; i++)
        assert_true(is_committed(store, publishers[i].name));
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
        test(much_that_is_sealed_is_committed_before_there_is_more),
        test(what_is_published_waits_with_sync),
        test(what_is_staged_does_not),
        test(moves_between_wait_with_sync),
        test(sealing_hurries_with_sync),
        test(those_who_wait_share_a_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
