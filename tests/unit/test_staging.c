/* SPDX-License-Identifier: BSD-2-Clause */
/* The host files behind unsealed files: bytes, times, sizes, and what the attributes say. */
#include "support.h"

#include "store/staging.h"

static const struct timespec past = {.tv_sec = 981173106, .tv_nsec = 123456789};
static const struct timespec other = {.tv_sec = -1000, .tv_nsec = 1};

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void bytes_are_there_with_the_first_one(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    assert_int_equal(store_create(store, STORE_ROOT_ID, "a", &OWNER_FILE, &attr), 0);
    char byte;
    assert_int_equal(staging_read(store, attr.id, &byte, 1, 0), -ENOENT);
    assert_int_equal(staging_sync(store, attr.id, true), 0);
    assert_int_equal(staging_attr(store, &attr), -ENOENT);
    assert_int_equal(attr.size, 0);
    assert_false(attr.sealed);

    assert_int_equal(store_write(store, attr.id, "abc", 3, 0), 3);
    assert_int_equal(staging_read(store, attr.id, &byte, 1, 0), 1);
    assert_false(staging_is_hosted(store, attr.id));
    assert_int_equal(staging_sync(store, attr.id, true), 0);
    assert_true(staging_is_hosted(store, attr.id));
    char name[32];
    struct stat st;
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)attr.id);
    assert_int_equal(fstatat(store->staging_fd, name, &st, 0), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_mode, S_IFREG | 0600); /* whatever the record's mode: nobody else's */
    assert_int_equal(staging_sync(store, attr.id, false), 0);
    assert_int_equal(attr_of(store, attr.id).size, 3);

    assert_int_equal(staging_remove(store, attr.id), 0);
    assert_int_equal(staging_remove(store, attr.id), 0);
}

static void bytes_are_read_as_written(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(1, 300000);
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", bytes, 300000);
    assert_true(holds(store, id, bytes, 300000));
    memcpy(bytes + 1000, "changed", 7);
    assert_int_equal(store_write(store, id, "changed", 7, 1000), 7);
    assert_true(holds(store, id, bytes, 300000));
    free(bytes);
}

static void writing_behind_the_end_leaves_zeros(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char expected[10001] = {0};
    expected[10000] = 'x';
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "", 0);
    assert_int_equal(store_write(store, id, "x", 1, 10000), 1);
    assert_true(holds(store, id, expected, sizeof(expected)));
    assert_int_equal(store_seal(store, id), 0);
    assert_true(holds(store, id, expected, sizeof(expected)));
}

static void size_can_be_set(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "abcdef", 6);
    assert_int_equal(store_writer_open(store, id), 0); /* or setting the size would seal it */
    struct store_attr attr = {.size = 3};
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), 0);
    assert_int_equal(attr.size, 3);
    attr.size = 5;
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), 0);
    assert_true(holds(store, id, "abc\0\0", 5));
    attr.size = 0;
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), 0);
    assert_true(holds(store, id, "", 0));
    assert_int_equal(store_fallocate(store, id, 0, 0, 5000), 0);
    assert_int_equal(attr_of(store, id).size, 5000);
    store_writer_close(store, id);
}

static void sizes_out_of_range_are_refused(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "abc", 3);
    struct store_attr attr = {.size = (uint64_t)STORE_FILE_MAX + 1};
    assert_int_equal(store_write(store, id, "x", 1, -1), -EFBIG);
    assert_int_equal(store_write(store, id, "x", 1, STORE_FILE_MAX), -EFBIG);
    assert_int_equal(store_write(store, id, "x", 1, INT64_MAX), -EFBIG);
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), -EFBIG);
    assert_int_equal(store_fallocate(store, id, 0, 0, 0), -EINVAL);
    assert_int_equal(store_fallocate(store, id, 0, -1, 10), -EINVAL);
    assert_int_equal(store_fallocate(store, id, 0, INT64_MAX, 10), -EFBIG);
    assert_int_equal(store_fallocate(store, id, 0, STORE_FILE_MAX, 1), -EFBIG);
    assert_int_equal(store_write(store, id, "", 0, 0), 0);
    assert_true(holds(store, id, "abc", 3));
}

static void only_regular_files_have_bytes_to_write(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr, now;
    uint64_t directory = make_directory(store, STORE_ROOT_ID, "d");
    assert_int_equal(store_write(store, directory, "x", 1, 0), -EISDIR);
    assert_int_equal(store_fallocate(store, directory, 0, 0, 1), -EISDIR);
    assert_int_equal(store_symlink(store, STORE_ROOT_ID, "l", "t", &OWNER_FILE, &attr), 0);
    assert_int_equal(store_write(store, attr.id, "x", 1, 0), -EINVAL);
    attr.size = 0;
    assert_int_equal(store_setattr(store, directory, STORE_SET_SIZE, &attr, &now), -EISDIR);
    assert_int_equal(store_setattr(store, attr.id, STORE_SET_SIZE, &attr, &now), -EINVAL);
    assert_int_equal(store_write(store, 123456, "x", 1, 0), -ENOENT);
    assert_int_equal(store_setattr(store, 123456, STORE_SET_SIZE, &attr, &now), -ENOENT);
    assert_int_equal(store_setattr(store, 123456, STORE_SET_MODE, &attr, &now), -ENOENT);
}

/* ------------------------------------------------------------------- times -- */

static struct store_attr set_times(struct store *store, uint64_t id)
{
    struct store_attr attr = {.atime = past, .mtime = other}, now;
    must(store_setattr(store, id, STORE_SET_ATIME | STORE_SET_MTIME, &attr, &now) == 0);
    return now;
}

static void times_are_as_set(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t files[] = {0, 100, 5000, 300000};
    char *bytes = random_bytes(2, 300000);
    for (size_t i = 0; i < array_length(files); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%zu", i);
        uint64_t id = write_unsealed(store, STORE_ROOT_ID, name, bytes, files[i]);
        struct store_attr attr = set_times(store, id);
        assert_true(same_time(attr.atime, past));
        assert_true(same_time(attr.mtime, other));
        attr = attr_of(store, id);
        assert_true(same_time(attr.mtime, other));

        /* Reading is not setting. */
        assert_true(holds(store, id, bytes, files[i]));
        assert_true(same_time(attr_of(store, id).atime, past));

        assert_int_equal(store_seal(store, id), 0);
        attr = attr_of(store, id);
        assert_true(attr.sealed);
        assert_true(same_time(attr.mtime, other));
        assert_true(same_time(attr.atime, past));

        struct store_attr again = {.mtime = past};
        assert_int_equal(store_setattr(store, id, STORE_SET_MTIME, &again, &attr), 0);
        assert_true(same_time(attr.mtime, past));
        assert_true(same_time(attr.atime, past));
    }
    free(bytes);
}

static void writing_changes_mtime_and_ctime(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "abc", 3);
    struct store_attr before = set_times(store, id);
    assert_int_equal(store_write(store, id, "d", 1, 3), 1);
    struct store_attr after = attr_of(store, id);
    assert_true(after.mtime.tv_sec >= before.ctime.tv_sec);
    assert_true(same_time(after.atime, past));
    assert_true(after.ctime.tv_sec >= before.ctime.tv_sec);
    assert_true(after.btime.tv_sec <= after.ctime.tv_sec);
}

static void times_of_directories_and_links_can_be_set(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t directory = make_directory(store, STORE_ROOT_ID, "d");
    assert_int_equal(store_symlink(store, STORE_ROOT_ID, "l", "t", &OWNER_FILE, &attr), 0);
    set_times(store, directory);
    set_times(store, attr.id);
    fixture_reopen(*state);
    store = ((struct fixture *)*state)->store;
    assert_true(same_time(attr_of(store, directory).mtime, other));
    assert_true(same_time(attr_of(store, attr.id).atime, past));
}

/* -------------------------------------------------------------- attributes -- */

static void mode_and_owner_are_as_set(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr now, attr = {.mode = S_IFDIR | 07640, .uid = 5, .gid = 6};
    uint64_t id = write_unsealed(store, STORE_ROOT_ID, "a", "abc", 3);
    assert_int_equal(store_setattr(store, id, STORE_SET_MODE, &attr, &now), 0);
    assert_int_equal(now.mode, S_IFREG | 07640); /* the type is not for changing */
    assert_int_equal(store_seal(store, id), 0);
    assert_int_equal(attr_of(store, id).mode, S_IFREG | 07440);
    assert_int_equal(attr_of(store, id).full_mode, S_IFREG | 07640);
    attr.mode = 0222;
    assert_int_equal(store_setattr(store, id, STORE_SET_MODE, &attr, &now), 0);
    assert_int_equal(now.mode, S_IFREG);
    assert_int_equal(now.full_mode, S_IFREG | 0222);
    assert_int_equal(store_setattr(store, id, STORE_SET_UID, &attr, &now), 0);
    assert_int_equal(now.uid, 5);
    assert_int_equal(now.gid, 1000);
    assert_int_equal(store_setattr(store, id, STORE_SET_GID, &attr, &now), 0);
    assert_int_equal(now.gid, 6);
    assert_true(holds(store, id, "abc", 3));
    /* Nothing to change. */
    assert_int_equal(store_setattr(store, id, 0, &attr, &now), 0);
    assert_int_equal(now.uid, 5);
}

static mode_t mode_after_chown(struct store *store, uint64_t id, mode_t mode, unsigned which)
{
    struct store_attr now, attr = {.mode = mode, .uid = 7, .gid = 8};
    must(store_setattr(store, id, STORE_SET_MODE, &attr, &now) == 0);
    must(store_setattr(store, id, which, &attr, &now) == 0);
    return now.full_mode & 07777;
}

static void new_owner_takes_the_set_id_bits(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t file = write_file(store, STORE_ROOT_ID, "a", "abc", 3);
    uint64_t directory = make_directory(store, STORE_ROOT_ID, "d");
    assert_int_equal(mode_after_chown(store, file, 06755, STORE_SET_UID), 0755);
    assert_int_equal(mode_after_chown(store, file, 06755, STORE_SET_GID), 0755);
    assert_int_equal(mode_after_chown(store, file, 02644, STORE_SET_UID), 02644);
    assert_int_equal(mode_after_chown(store, directory, 07755, STORE_SET_UID), 07755);
}

/* -------------------------------------------------------------------- list -- */

static void list_has_host_files_only_of_ids(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t *ids = NULL, expected[100];
    size_t count = 7;
    assert_int_equal(staging_list(store, &ids, &count), 0);
    assert_int_equal(count, 0);
    free(ids);
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        expected[i] = write_unsealed(store, STORE_ROOT_ID, name, "x", 1);
    }
    static const char *const foreign[] = {"README", "00000000000000zz", "12", "0000000000000041~"};
    assert_int_equal(staging_settle(store), 0);
    for (size_t i = 0; i < array_length(foreign); i++)
        close(openat(store->staging_fd, foreign[i], O_WRONLY | O_CREAT, 0600));
    assert_int_equal(staging_list(store, &ids, &count), 0);
    assert_int_equal(count, 100);
    for (size_t i = 0; i < count; i++) {
        bool found = false;
        for (size_t j = 0; j < count; j++)
            found = found || ids[i] == expected[j];
        assert_true(found);
    }
    free(ids);
    for (size_t i = 0; i < array_length(foreign); i++)
        assert_int_equal(unlinkat(store->staging_fd, foreign[i], 0), 0);
}

/* Somebody with access to the store's directory must not lead our writes elsewhere. */
static void host_file_that_is_a_link_is_not_followed(void **state)
{
    struct fixture *fixture = *state;
    struct store_attr attr;
    char name[32], target[400];
    assert_int_equal(store_create(fixture->store, STORE_ROOT_ID, "a", &OWNER_FILE, &attr), 0);
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)attr.id);
    snprintf(target, sizeof(target), "%s/victim", fixture->directory);
    assert_int_equal(symlinkat(target, fixture->store->staging_fd, name), 0);
    assert_int_equal(store_write(fixture->store, attr.id, "x", 1, 0), -ELOOP);
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(unlinkat(fixture->store->staging_fd, name, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(bytes_are_there_with_the_first_one),
        test_with_store(bytes_are_read_as_written),
        test_with_store(writing_behind_the_end_leaves_zeros),
        test_with_store(size_can_be_set),
        test_with_store(sizes_out_of_range_are_refused),
        test_with_store(only_regular_files_have_bytes_to_write),
        test_with_store(times_are_as_set),
        test_with_store(writing_changes_mtime_and_ctime),
        test_with_store(times_of_directories_and_links_can_be_set),
        test_with_store(mode_and_owner_are_as_set),
        test_with_store(new_owner_takes_the_set_id_bits),
        test_with_store(list_has_host_files_only_of_ids),
        test_with_store(host_file_that_is_a_link_is_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
