/* SPDX-License-Identifier: BSD-2-Clause */
/* The contents of many small files at once: all that are wanted, whole and in order, no others. */
#include "support.h"

#define ROOT STORE_ROOT_ID
#define EXTENT ((size_t)128 << 10)
#define FILES 300

struct seen {
    struct store *store;
    uint64_t ids[FILES];
    size_t count, stop_at;
};

static bool note(void *arg, uint64_t id, const void *bytes, size_t size)
{
    struct seen *seen = arg;
    assert_true(holds(seen->store, id, bytes, size)); /* and no transaction is open */
    seen->ids[seen->count++] = id;
    return seen->count != seen->stop_at;
}

static int contents(struct store *store, const uint64_t *ids, size_t count, size_t most,
                    store_content_fn *each, void *arg)
{
    must(store_sync(store) == 0); /* what is pending isn't sent ahead */
    struct store_group *group = store_group_new(store);
    int r = store_contents(group, ids, count, most, each, arg);
    store_group_free(group);
    return r;
}

static void contents_of_all_sizes_come_in_order(void **state)
{
    static const size_t sizes[] = {1,    1926, 1927, 2014,  2015,   4080,
                                   4081, 4096, 8192, 65536, EXTENT, EXTENT + 1};
    struct store *store = ((struct fixture *)*state)->store;
    struct seen seen = {.store = store};
    uint64_t ids[FILES];
    for (size_t i = 0; i < FILES; i++) {
        size_t size = sizes[(FILES - i) % array_length(sizes)];
        char *bytes = random_bytes(i, size), name[16];
        snprintf(name, sizeof(name), "%zu", i);
        ids[FILES - 1 - i] = write_file(store, ROOT, name, bytes, size);
        free(bytes);
    }
    assert_int_equal(contents(store, ids, FILES, SIZE_MAX, note, &seen), 0);
    size_t at = 0;
    for (size_t i = 0; i < FILES; i++) {
        if (attr_of(store, ids[i]).size <= EXTENT)
            assert_int_equal(seen.ids[at++], ids[i]);
    }
    assert_int_equal(seen.count, at);
    assert_true(at > FILES / 2 && at < FILES);
}

static void what_is_no_small_sealed_file_is_left_out(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct seen seen = {.store = store};
    struct store_attr link;
    uint64_t small = write_file(store, ROOT, "small", "abc", 3);
    uint64_t ids[] = {
        123456, /* nobody's */
        ROOT,
        write_file(store, ROOT, "empty", "", 0),
        write_unsealed(store, ROOT, "unsealed", "abc", 3),
        write_file(store, ROOT, "larger", "abcd", 4),
        small,
        small,
    };
    assert_int_equal(store_symlink(store, ROOT, "link", "abc", &OWNER_FILE, &link), 0);
    assert_int_equal(contents(store, &link.id, 1, 3, note, &seen), 0);
    assert_int_equal(contents(store, ids, array_length(ids), 3, note, &seen), 0);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.ids[0], small);
    assert_int_equal(seen.ids[1], small);
    assert_int_equal(contents(store, ids, 0, 3, note, &seen), 0);
    assert_int_equal(seen.count, 2);
}

static void caller_can_stop(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct seen seen = {.store = store, .stop_at = 2};
    uint64_t ids[] = {
        write_file(store, ROOT, "a", "a", 1),
        write_file(store, ROOT, "b", "b", 1),
        write_file(store, ROOT, "c", "c", 1),
    };
    assert_int_equal(contents(store, ids, array_length(ids), 100, note, &seen), 0);
    assert_int_equal(seen.count, 2);
}

/* Who reads it is told; nobody is given it unasked. */
static void damaged_content_is_left_out(void **state)
{
    struct fixture *fixture = *state;
    struct seen seen = {.store = fixture->store};
    char *bytes = random_bytes(1, 4000), page[4096];
    uint64_t ids[] = {
        write_file(fixture->store, ROOT, "a", bytes, 4000),
        write_file(fixture->store, ROOT, "b", "sound", 5),
    };
    must(store_sync(fixture->store) == 0);
    int fd = env_fd(fixture->store->env);
    bool damaged = false;
    for (off_t at = 0; pread(fd, page, sizeof(page), at) == sizeof(page); at += 4096) {
        char *found = memmem(page, sizeof(page), bytes + 100, 100);
        if (found == NULL)
            continue;
        found[0] ^= 1;
        must(pwrite(fd, page, sizeof(page), at) == sizeof(page));
        damaged = true;
    }
    assert_true(damaged);
    assert_int_equal(contents(fixture->store, ids, 2, 4096, note, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.ids[0], ids[1]);
    assert_non_null(strstr(fixture->warning, "a: damaged"));
    fixture->warning[0] = '\0';
    must(store_unlink(fixture->store, ROOT, "a") == 0);
    free(bytes);
}

static void lease_is_seen(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_file(store, ROOT, "a", "a", 1);
    assert_false(store_leased(store, id));
    assert_int_equal(store_lease(store, id), 0);
    assert_true(store_leased(store, id));
    store_lease_drop(store, id, 1);
    assert_false(store_leased(store, id));
    store_prefetch(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(contents_of_all_sizes_come_in_order),
        test_with_store(what_is_no_small_sealed_file_is_left_out),
        test_with_store(caller_can_stop),
        test_with_store(damaged_content_is_left_out),
        test_with_store(lease_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
