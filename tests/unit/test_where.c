/* SPDX-License-Identifier: BSD-2-Clause */
/* Names and paths of nodes, found again. */
#include "support.h"

#include "fs/where.h"

#define ROOT STORE_ROOT_ID

static void names_are_found(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char name[STORE_NAME_MAX + 1], longest[STORE_NAME_MAX + 1];
    memset(longest, 'x', STORE_NAME_MAX);
    longest[STORE_NAME_MAX] = '\0';
    uint64_t id = write_file(store, ROOT, "a", "a", 1),
             other = write_file(store, ROOT, longest, "b", 1);
    assert_int_equal(where_name(store, ROOT, id, name), 0);
    assert_string_equal(name, "a");
    assert_int_equal(where_name(store, ROOT, other, name), 0);
    assert_string_equal(name, longest);
    assert_int_equal(where_name(store, ROOT, 123456, name), -ENOENT);
    assert_int_equal(where_name(store, id, other, name), -ENOTDIR);
    must(store_unlink(store, ROOT, "a") == 0);
    assert_int_equal(where_name(store, ROOT, id, name), -ENOENT);
}

#define LONG 4100

struct order {
    uint64_t ids[LONG];
    size_t count;
};

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    struct order *order = arg;
    order->ids[order->count++] = id;
    return true;
}

/* It must not take long, so what comes late in a long listing isn't found. */
static void search_has_an_end(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char name[STORE_NAME_MAX + 1];
    uint64_t directory = make_directory(store, ROOT, "many");
    struct store_attr attr;
    for (unsigned i = 0; i < LONG; i++) {
        snprintf(name, sizeof(name), "%u", i);
        must(store_symlink(store, directory, name, "x", &OWNER_FILE, &attr) == 0);
    }
    struct order order = {.count = 0};
    assert_int_equal(store_readdir(store, directory, 0, false, note, &order), 0);
    assert_int_equal(order.count, LONG);
    assert_int_equal(where_name(store, directory, order.ids[4095], name), 0);
    assert_int_equal(where_name(store, directory, order.ids[4096], name), -ENOENT);
}

static void paths_are_found(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char path[PATH_MAX];
    assert_int_equal(where_path(store, ROOT, path), 0);
    assert_string_equal(path, ".");
    uint64_t a = make_directory(store, ROOT, "a"), b = make_directory(store, a, "bcd");
    assert_int_equal(where_path(store, a, path), 0);
    assert_string_equal(path, "a");
    assert_int_equal(where_path(store, b, path), 0);
    assert_string_equal(path, "a/bcd");
    must(store_rename(store, ROOT, "a", ROOT, "e", 0) == 0);
    assert_int_equal(where_path(store, b, path), 0);
    assert_string_equal(path, "e/bcd");
    assert_int_equal(where_path(store, 123456, path), -ENOENT);
}

static void path_that_is_too_long_is_refused(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char path[PATH_MAX], name[201];
    memset(name, 'd', 200);
    name[200] = '\0';
    uint64_t directory = ROOT;
    for (int i = 1; i <= 20; i++) {
        directory = make_directory(store, directory, name);
        assert_int_equal(where_path(store, directory, path), 0);
        assert_int_equal(strlen(path), 201 * i - 1);
    }
    directory = make_directory(store, directory, name);
    assert_int_equal(where_path(store, directory, path), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(names_are_found),
        test_with_store(search_has_an_end),
        test_with_store(paths_are_found),
        test_with_store(path_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
