/* SPDX-License-Identifier: BSD-2-Clause */
/* Trees that leave staging: published in one step, and released from being held behind it. */
#include "support.h"

#include <stdatomic.h>
#include <sys/wait.h>

#include "store/meta.h"

#define ROOT STORE_ROOT_ID
#define STAGING STORE_STAGING_ID

/* More than who moves a tree releases himself. */
#define MANY 1500
#define DIRECTORIES 10

struct tree {
    uint64_t top;
    uint64_t directories[DIRECTORIES];
    uint64_t files[MANY];
};

static size_t size_of(unsigned i)
{
    return i % 50 == 0 ? 300000 : i % 3 == 0 ? 5000 : 10 + i % 100;
}

/* A tree in staging, and all of it settled: directories in directories, and files in each. */
static struct tree make_tree(struct store *store, const char *name)
{
    struct tree tree = {.top = make_directory(store, STAGING, name)};
    char *bytes = random_bytes(1, 300000);
    for (unsigned i = 0; i < DIRECTORIES; i++) {
        char directory[16];
        snprintf(directory, sizeof(directory), "d%u", i);
        uint64_t above = i % 3 == 0 ? tree.top : tree.directories[i - 1];
        tree.directories[i] = make_directory(store, above, directory);
    }
    for (unsigned i = 0; i < MANY; i++) {
        char file[16];
        snprintf(file, sizeof(file), "f%u", i);
        uint64_t directory = i % 11 == 10 ? tree.top : tree.directories[i % DIRECTORIES];
        tree.files[i] = write_unsealed(store, directory, file, bytes, size_of(i));
    }
    assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
    free(bytes);
    return tree;
}

struct watch {
    struct store *store;
    const struct tree *tree;
};

static bool all_sealed(void *arg)
{
    const struct watch *watch = arg;
    for (unsigned i = 0; i < MANY; i++)
        if (!attr_of(watch->store, watch->tree->files[i]).sealed)
            return false;
    return true;
}

static bool gets_sealed(struct store *store, const struct tree *tree)
{
    struct watch watch = {store, tree};
    return wait_for(all_sealed, &watch);
}

static void assert_content(struct store *store, const struct tree *tree)
{
    char *bytes = random_bytes(1, 300000);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(holds(store, tree->files[i], bytes, size_of(i)));
    free(bytes);
}

static bool has_mark(struct store *store)
{
    uint64_t id, limit;
    struct view *view = begin_read(store);
    int r = meta_next_mark(store, view, 0, &id, &limit);
    end_read(store, view);
    assert_true(r == 0 || r == -ENOENT);
    return r == 0;
}

static void tree_that_leaves_staging_gets_sealed(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct tree tree = make_tree(store, "tree");
    for (unsigned i = 0; i < MANY; i++) {
        struct store_attr attr = attr_of(store, tree.files[i]);
        assert_true(attr.held && !attr.sealed && !attr.open);
    }
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    assert_true(gets_sealed(store, &tree));
    assert_content(store, &tree);
    assert_int_equal(store_sync(store), 0);
    assert_false(has_mark(store));
}

static void small_tree_is_sealed_when_the_move_returns(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t top = make_directory(store, STAGING, "tree"), ids[100];
    for (unsigned i = 0; i < array_length(ids); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", i);
        uint64_t directory = i % 10 == 0 ? make_directory(store, top, name) : top;
        ids[i] = write_unsealed(store, directory, i % 10 == 0 ? "f" : name, "abc", 3);
    }
    assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    for (unsigned i = 0; i < array_length(ids); i++)
        assert_true(attr_of(store, ids[i]).sealed);
    assert_int_equal(store_sync(store), 0);
    assert_false(has_mark(store));
}

/* Also as long as the flags are there. */
static void file_that_has_left_staging_refuses_writers(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct tree tree = make_tree(store, "tree"), other = make_tree(store, "other");
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    for (unsigned i = MANY; i-- > 0;)
        assert_int_equal(store_write(store, tree.files[i], "x", 1, 0), -EPERM);
    assert_content(store, &tree);
    /* Those that have not take them. */
    for (unsigned i = 0; i < MANY; i += 7)
        assert_int_equal(store_write(store, other.files[i], "x", 1, 0), 1);
    assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
    assert_int_equal(store_rename(store, STAGING, "other", ROOT, "other", 0), 0);
    assert_true(gets_sealed(store, &other));
}

static void parts_that_are_moved_on_get_sealed_too(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct tree tree = make_tree(store, "tree");
    struct store_attr attr;
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    /* The last ones that a sweep comes to are not known, so all. */
    for (unsigned i = DIRECTORIES; i-- > 0;) {
        char name[16];
        snprintf(name, sizeof(name), "d%u", i);
        uint64_t above = i % 3 == 0 ? tree.top : tree.directories[i - 1];
        assert_int_equal(store_rename(store, above, name, ROOT, name, 0), 0);
    }
    assert_int_equal(store_link(store, tree.files[MANY - 1], ROOT, "link", &attr), 0);
    assert_true(attr.sealed);
    assert_true(gets_sealed(store, &tree));
    assert_content(store, &tree);
}

static void tree_can_go_back_and_forth(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct tree tree = make_tree(store, "tree");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
        assert_int_equal(store_rename(store, ROOT, "tree", STAGING, "tree", 0), 0);
    }
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    assert_true(gets_sealed(store, &tree));
    assert_content(store, &tree);
}

static void file_that_is_being_written_is_sealed_when_it_is_let_go(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct tree tree = make_tree(store, "tree");
    for (unsigned i = 0; i < MANY; i += 10) {
        assert_int_equal(store_writer_open(store, tree.files[i]), 0);
        if (i % 20 == 0)
            assert_int_equal(store_setattr(store, tree.files[i], STORE_SET_SIZE,
                                           &(struct store_attr){.size = 5},
                                           &(struct store_attr){0}),
                             0);
    }
    assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
    assert_int_equal(store_rename(store, STAGING, "tree", ROOT, "tree", 0), 0);
    char *bytes = random_bytes(1, 300000);
    for (unsigned i = 0; i < MANY; i += 20) {
        assert_int_equal(store_write(store, tree.files[i], bytes + 5, 5, 5), 5);
        store_writer_close(store, tree.files[i]);
        store_writer_close(store, tree.files[i + 10]);
    }
    assert_true(gets_sealed(store, &tree));
    for (unsigned i = 0; i < MANY; i++)
        assert_true(holds(store, tree.files[i], bytes, i % 20 == 0 ? 10 : size_of(i)));
    free(bytes);
}

/* --------------------------------------------------------------------- crash -- */

/* So many are released when the process ends. */
#define RELEASED (MANY / 3)

static struct store *dying;
static int dying_fd;

/* Dies in the middle, all that was done being durable. */
static void die(void *arg, uint64_t id)
{
    (void)arg, (void)id;
    static atomic_uint calls;
    if (atomic_fetch_add(&calls, 1) != RELEASED)
        return;
    must(store_sync(dying) == 0);
    must(write(dying_fd, "x", 1) == 1);
    _exit(0);
}

static void move_and_die(struct fixture *fixture, struct tree *tree)
{
    fixture->options.sealed = die;
    fixture_open(fixture);
    dying = fixture->store;
    *tree = make_tree(fixture->store, "tree");
    uint64_t busy = tree->files[MANY - 1];
    must(store_writer_open(dying, busy) == 0);
    must(store_write(dying, busy, "busy", 4, 0) == 4);
    must(write(dying_fd, tree, sizeof(*tree)) == sizeof(*tree));
    must(store_rename(dying, STAGING, "tree", ROOT, "tree", 0) == 0);
    pause();
}

static unsigned held(struct store *store, const struct tree *tree)
{
    unsigned count = 0;
    for (unsigned i = 0; i < MANY; i++)
        count += attr_of(store, tree->files[i]).held;
    return count;
}

static void crash_in_the_middle_is_made_good(void **state)
{
    struct fixture *fixture = *state;
    struct tree tree;
    int ends[2], status;
    char end;
    assert_int_equal(pipe(ends), 0);
    dying_fd = ends[1];
    pid_t pid = fork();
    if (pid == 0)
        move_and_die(fixture, &tree);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &tree, sizeof(tree)), sizeof(tree));
    assert_int_equal(read(ends[0], &end, 1), 1);
    close(ends[0]);
    close(ends[1]);

    fixture_open(fixture);
    struct store *store = fixture->store;
    assert_true(has_mark(store));
    assert_in_range(held(store, &tree), 1, MANY - RELEASED + 1);
    assert_int_equal(store_recover(store), 0);
    assert_int_equal(held(store, &tree), 0);
    assert_true(gets_sealed(store, &tree));
    assert_false(has_mark(store));
    char *bytes = random_bytes(1, 300000);
    memcpy(bytes, "busy", 4);
    assert_true(holds(store, tree.files[MANY - 1], bytes, size_of(MANY - 1)));
    free(bytes);
    assert_int_equal(store_write(store, tree.files[0], "x", 1, 0), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(tree_that_leaves_staging_gets_sealed),
        test_with_store(small_tree_is_sealed_when_the_move_returns),
        test_with_store(file_that_has_left_staging_refuses_writers),
        test_with_store(parts_that_are_moved_on_get_sealed_too),
        test_with_store(tree_can_go_back_and_forth),
        test_with_store(file_that_is_being_written_is_sealed_when_it_is_let_go),
        test_with_directory(crash_in_the_middle_is_made_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
