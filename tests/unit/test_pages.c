/* SPDX-License-Identifier: BSD-2-Clause */
/* Damaged files: what is said to be sound can be opened and read to the end, whatever was cut off;
 * and nothing that a file can hold makes the looking itself go wrong. */
#include "support.h"

#include <sys/wait.h>

#include "store/pages.h"

#define ROOT STORE_ROOT_ID

static void path_of_data(const struct fixture *fixture, char path[400])
{
    snprintf(path, 400, "%s/data.mdb", fixture->path);
}

static int look(const struct fixture *fixture)
{
    char path[400];
    struct stat st;
    path_of_data(fixture, path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    int state = pages_look(fd, st.st_size);
    close(fd);
    return state;
}

/* A tree of some depth, with large values, free pages, and nested tables. */
static struct fixture *rich_store(void **state, unsigned files)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    char *bytes = random_bytes(1, 300000);
    for (unsigned i = 0; i < files; i++) {
        char name[16];
        const size_t sizes[] = {0, 1500, 3000, 5000, 300000};
        snprintf(name, sizeof(name), "%u", i);
        write_file(fixture->store, ROOT, name, bytes, sizes[i % 5]);
        if (i % 4 == 0)
            assert_int_equal(store_unlink(fixture->store, ROOT, name), 0);
    }
    free(bytes);
    fixture_close(fixture);
    return fixture;
}

static void whole_file_is_sound(void **state)
{
    struct fixture *fixture = rich_store(state, 60);
    assert_int_equal(look(fixture), PAGES_SOUND);
}

/* Pages of zeros behind the end, or a part of a page, are no damage. */
static void longer_file_is_sound(void **state)
{
    struct fixture *fixture = rich_store(state, 10);
    char path[400];
    struct stat st;
    path_of_data(fixture, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size + 100), 0);
    assert_int_equal(look(fixture), PAGES_SOUND);
    assert_int_equal(truncate(path, st.st_size + 100000), 0);
    assert_int_equal(look(fixture), PAGES_SOUND);
    fixture_open(fixture);
}

static void files_of_other_kinds_are_told_apart(void **state)
{
    struct fixture *fixture = rich_store(state, 3);
    const struct {
        uint32_t value;
        off_t at;
        int state;
    } patches[] = {
        {0xBEEFC0DE, 16, PAGES_SOUND},    {__builtin_bswap32(0xBEEFC0DE), 16, PAGES_OTHER_ORDER},
        {0x12345678, 16, PAGES_NOT_LMDB}, {2, 20, PAGES_OTHER_FORMAT},
        {0, 40, PAGES_MISSING},       /* page size */
        {100, 40, PAGES_MISSING},     /* one that is too small */
        {1u << 20, 40, PAGES_MISSING} /* too large */
    };
    char path[400];
    path_of_data(fixture, path);
    int fd = open(path, O_RDWR);
    for (size_t i = 0; i < array_length(patches); i++) {
        uint32_t before;
        assert_int_equal(pread(fd, &before, 4, patches[i].at), 4);
        assert_int_equal(pwrite(fd, &patches[i].value, 4, patches[i].at), 4);
        assert_int_equal(look(fixture), patches[i].state);
        assert_int_equal(pwrite(fd, &before, 4, patches[i].at), 4);
    }
    close(fd);
    assert_int_equal(look(fixture), PAGES_SOUND);
}

/* ---------------------------------------------------------------- cut off -- */

/* Reads everything, in a process of its own; how that ended. */
static int status_of_reading_all(struct fixture *fixture)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        close(2); /* what it says about a damaged store is nobody's concern */
        fixture->options.read_only = true;
        fixture->options.create = false;
        fixture_open(fixture);
        (void)examine(fixture->store);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void file_that_lacks_used_pages_is_never_sound(void **state)
{
    struct fixture *fixture = rich_store(state, 25);
    char path[400];
    struct stat st;
    path_of_data(fixture, path);
    assert_int_equal(stat(path, &st), 0);
    unsigned missing = 0, pages = (unsigned)(st.st_size / 4096);
    for (unsigned page = pages; page-- > 0;) {
        assert_int_equal(truncate(path, (off_t)page * 4096 + (page % 3 == 0 ? 0 : 1000)), 0);
        int found = look(fixture);
        if (found == PAGES_SOUND)
            assert_int_equal(status_of_reading_all(fixture), 0);
        else
            assert_int_equal(found, PAGES_MISSING);
        missing += found == PAGES_MISSING;
    }
    /* Some of the last may be free, but not many: each file has a use for most. */
    assert_in_range(missing, pages / 2, pages);
}

/* ------------------------------------------------------------------- fuzz -- */

static void damage(struct random *random, int fd, off_t size)
{
    for (uint64_t n = 1 + random_below(random, 8); n > 0; n--) {
        /* Mostly where numbers are: page headers, meta pages, the first nodes. */
        off_t at = (off_t)random_below(random, (uint64_t)size);
        if (random_below(random, 4) != 0)
            at = at / 4096 * 4096 + (off_t)random_below(random, 200);
        if (random_below(random, 5) == 0)
            at = (off_t)random_below(random, 8192);
        static const uint64_t words[] = {0, 1, 2, UINT64_MAX, 0x7fffffff, 1 << 16, 4096};
        uint64_t word =
            random_below(random, 2) ? random_next(random) : words[random_below(random, 7)];
        size_t bytes = (size_t)1 << random_below(random, 4);
        assert_int_equal(pwrite(fd, &word, bytes, at), bytes);
    }
}

/* The walk checks each number before it uses it: no crash, no end that never comes. */
static void no_damage_makes_the_walk_itself_go_wrong(void **state)
{
    struct fixture *fixture = rich_store(state, 40);
    char path[400];
    struct stat st;
    path_of_data(fixture, path);
    int fd = open(path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    char *good = malloc((size_t)st.st_size);
    assert_int_equal(pread(fd, good, (size_t)st.st_size, 0), st.st_size);
    struct random random = random_new(1);
    unsigned states[5] = {0};
    for (unsigned n = 0; n < scaled(3000, 600); n++) {
        assert_int_equal(pwrite(fd, good, (size_t)st.st_size, 0), st.st_size);
        damage(&random, fd, st.st_size);
        /* Only a file that is too short is walked. */
        off_t cut = st.st_size - 4096 * (off_t)random_below(&random, 20);
        assert_int_equal(ftruncate(fd, cut), 0);
        int found = pages_look(fd, cut);
        assert_in_range(found, PAGES_SOUND, PAGES_MISSING);
        states[found]++;
    }
    assert_true(states[PAGES_MISSING] > 0);
    free(good);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_directory(whole_file_is_sound),
        test_with_directory(longer_file_is_sound),
        test_with_directory(files_of_other_kinds_are_told_apart),
        test_with_directory(file_that_lacks_used_pages_is_never_sound),
        test_with_directory(no_damage_makes_the_walk_itself_go_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
