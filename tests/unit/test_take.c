/* SPDX-License-Identifier: BSD-2-Clause */
/* A host tree that is taken into staging, and thrown away again. */
#include "support.h"

#include <signal.h>

#define STAGING STORE_STAGING_ID
#define LARGE 700000 /* goes ahead of its change */

/* What a taking left out. */
struct left {
    char path[200];
    int error, count;
    int answer;
    int names; /* until it is told to stop; -1: never */
};

static int leave(void *arg, const char *path, int error)
{
    struct left *left = arg;
    snprintf(left->path, sizeof(left->path), "%s", path);
    left->error = error;
    left->count++;
    return left->answer;
}

static bool stop(void *arg)
{
    struct left *left = arg;
    return left->names >= 0 && left->names-- == 0;
}

/* A directory of the host beside the store. */
static int make_host(struct fixture *fixture)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/host", fixture->directory);
    assert_int_equal(mkdir(path, 0755), 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    return fd;
}

static void put(int fd, const char *name, const void *bytes, size_t size)
{
    int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL, 0640);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, size), size);
    assert_int_equal(close(file), 0);
}

static int take(struct fixture *fixture, int fd, uint64_t *to, struct left *left)
{
    const struct store_taking taking = {left, leave, stop};
    if (signal(SIGIO, SIG_IGN) == SIG_ERR)
        return -EINVAL;
    *to = make_directory(fixture->store, STAGING, "to");
    return store_take(fixture->store, fd, *to, &taking);
}

static void discard(struct fixture *fixture)
{
    assert_int_equal(store_discard(fixture->store, STAGING, "to"), 0);
    assert_int_equal(id_of(fixture->store, STAGING, "to"), 0);
    assert_int_equal(store_discard(fixture->store, STAGING, "to"), -ENOENT);
}

static void tree_is_taken_whole(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    int fd = make_host(fixture);
    char *bytes = random_bytes(1, LARGE);
    assert_int_equal(mkdirat(fd, "a", 0750), 0);
    assert_int_equal(mkdirat(fd, "a/b", 0700), 0);
    put(fd, "a/b/small", "small", 5);
    put(fd, "a/large", bytes, LARGE);
    put(fd, "empty", "", 0);
    assert_int_equal(linkat(fd, "a/large", fd, "link", 0), 0);
    assert_int_equal(symlinkat("some/where", fd, "symlink"), 0);
    struct left left = {.names = -1};
    uint64_t to;
    assert_int_equal(take(fixture, fd, &to, &left), 0);
    assert_int_equal(left.count, 0);

    uint64_t a = id_of(store, to, "a"), large = id_of(store, a, "large");
    assert_true(holds(store, id_of(store, id_of(store, a, "b"), "small"), "small", 5));
    assert_true(holds(store, large, bytes, LARGE));
    assert_true(attr_of(store, large).sealed);
    assert_false(attr_of(store, large).held);
    assert_int_equal(attr_of(store, large).full_mode, S_IFREG | 0640);
    assert_int_equal(attr_of(store, large).nlink, 2);
    assert_int_equal(id_of(store, to, "link"), large);
    assert_int_equal(attr_of(store, a).mode, S_IFDIR | 0750);
    assert_true(holds(store, id_of(store, to, "symlink"), "some/where", 10));
    assert_true(attr_of(store, id_of(store, to, "empty")).sealed);

    assert_int_equal(store_rename(store, to, "a", STORE_ROOT_ID, "a", 0), 0);
    discard(fixture);
    assert_true(holds(store, large, bytes, LARGE));
    free(bytes);
    close(fd);
}

static void directory_is_read_on_after_its_directories(void **state)
{
    struct fixture *fixture = *state;
    int fd = make_host(fixture), count = (int)scaled(1500, 700);
    char name[60];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "a-name-of-some-length-%d", i);
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        snprintf(name, sizeof(name), "a-name-of-some-length-%d/file", i);
        put(fd, name, name, strlen(name));
    }
    struct left left = {.names = -1};
    uint64_t to;
    assert_int_equal(take(fixture, fd, &to, &left), 0);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "a-name-of-some-length-%d", i);
        uint64_t directory = id_of(fixture->store, to, name);
        strcat(name, "/file");
        assert_true(
            holds(fixture->store, id_of(fixture->store, directory, "file"), name, strlen(name)));
    }
    discard(fixture);
    close(fd);
}

static void special_files_are_left_out(void **state)
{
    struct fixture *fixture = *state;
    int fd = make_host(fixture);
    assert_int_equal(mkdirat(fd, "a", 0755), 0);
    assert_int_equal(mkfifoat(fd, "a/fifo", 0644), 0);
    put(fd, "a/file", "x", 1);
    struct left left = {.names = -1};
    uint64_t to;
    assert_int_equal(take(fixture, fd, &to, &left), 0);
    assert_int_equal(left.count, 1);
    assert_int_equal(left.error, -EPERM);
    assert_string_equal(left.path, "a/fifo");
    assert_true(id_of(fixture->store, id_of(fixture->store, to, "a"), "file") != 0);
    discard(fixture);
    left.answer = -EDOM;
    assert_int_equal(take(fixture, fd, &to, &left), -EDOM);
    discard(fixture);
    close(fd);
}

static void files_that_are_written_are_not_taken(void **state)
{
    struct fixture *fixture = *state;
    int fd = make_host(fixture);
    put(fd, "file", "x", 1);
    int writer = openat(fd, "file", O_WRONLY);
    assert_true(writer >= 0);
    struct left left = {.names = -1};
    uint64_t to;
    assert_int_equal(take(fixture, fd, &to, &left), -EBUSY);
    discard(fixture);
    close(writer);
    assert_int_equal(take(fixture, fd, &to, &left), 0);
    discard(fixture);
    close(fd);
}

static void taking_stops(void **state)
{
    struct fixture *fixture = *state;
    int fd = make_host(fixture);
    char *bytes = random_bytes(2, LARGE);
    put(fd, "1", bytes, LARGE);
    put(fd, "2", bytes, LARGE);
    for (int names = 0; names < 4; names++) {
        struct left left = {.names = names};
        uint64_t to;
        assert_int_equal(take(fixture, fd, &to, &left), -EINTR);
        discard(fixture);
    }
    free(bytes);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(tree_is_taken_whole),
        test_with_store(directory_is_read_on_after_its_directories),
        test_with_store(special_files_are_left_out),
        test_with_store(files_that_are_written_are_not_taken),
        test_with_store(taking_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
