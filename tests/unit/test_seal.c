/* SPDX-License-Identifier: BSD-2-Clause */
/* Sealing: when a file's content becomes final, who may still write, and what is kept. */
#include "support.h"

#include <signal.h>
#include <stdatomic.h>
#include <xxhash.h>

#define ROOT STORE_ROOT_ID
#define STAGING STORE_STAGING_ID
#define EXTENT ((size_t)128 << 10)

static bool is_sealed(struct store *store, uint64_t id)
{
    return attr_of(store, id).sealed;
}

struct watch {
    struct fixture *fixture;
    uint64_t id;
};

static bool watched_is_sealed(void *arg)
{
    const struct watch *watch = arg;
    return is_sealed(watch->fixture->store, watch->id);
}

static bool gets_sealed(struct fixture *fixture, uint64_t id)
{
    struct watch watch = {fixture, id};
    return wait_for(watched_is_sealed, &watch);
}

static uint64_t sealed_calls(struct fixture *fixture)
{
    with_mutex(&fixture->lock);
    return fixture->sealed;
}

static bool has_call(void *arg)
{
    return sealed_calls(arg) > 0;
}

static uint64_t create(struct store *store, uint64_t parent, const char *name)
{
    return write_unsealed(store, parent, name, "", 0);
}

static bool has_hash(struct store *store, uint64_t id, const void *bytes, size_t size)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
    return memcmp(attr_of(store, id).hash, canonical.digest, 16) == 0;
}

/* ------------------------------------------------------------------- content -- */

static void file_of_every_size_is_sealed_with_its_hash(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t sizes[] = {0,    1,    1925,  1926,       1927,   2014,       2015,
                            4079, 4080, 4081,  4095,       4096,   4097,       8192,
                            8193, 9000, 65536, EXTENT - 1, EXTENT, EXTENT + 1, (9 << 20) + 1};
    for (size_t i = 0; i < array_length(sizes); i++) {
        char *bytes = random_bytes(i, sizes[i]);
        char name[32];
        snprintf(name, sizeof(name), "%zu", sizes[i]);
        uint64_t id = write_unsealed(store, ROOT, name, bytes, sizes[i]);
        assert_false(is_sealed(store, id));
        assert_int_equal(store_seal(store, id), 0);
        struct store_attr attr = attr_of(store, id);
        assert_true(attr.sealed);
        assert_int_equal(attr.size, sizes[i]);
        assert_int_equal(attr.mode, S_IFREG | (sizes[i] > 0 ? 0444 : 0644));
        assert_true(holds(store, id, bytes, sizes[i]));
        assert_int_equal(store_sync(store), 0);
        assert_true(has_hash(store, id, bytes, sizes[i]));
        assert_true(holds(store, id, bytes, sizes[i]));
        assert_int_equal(store_seal(store, id), 0);
        free(bytes);
    }
    assert_int_equal(examine(store).staged_files, 0);
    struct store_stat stat;
    assert_int_equal(store_stat(store, true, &stat), 0);
    assert_int_equal(stat.files, array_length(sizes));
    assert_int_equal(stat.inline_files, 4);
    assert_int_equal(stat.extent_files, array_length(sizes) - 4);
    assert_int_equal(stat.unsealed_files, 0);
}

static void sealed_file_refuses_all_writing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_file(store, ROOT, "a", "abc", 3);
    struct store_attr attr = {.size = 0};
    assert_int_equal(store_writer_open(store, id), -EPERM);
    assert_int_equal(store_write(store, id, "x", 1, 0), -EPERM);
    assert_int_equal(store_fallocate(store, id, 0, 0, 100), -EPERM);
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), -EPERM);
    attr.size = 3;
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), -EPERM);
    assert_int_equal(store_fsync(store, id, false), 0);
    store_writer_close(store, id); /* nobody's */
    assert_true(holds(store, id, "abc", 3));
}

/* A crash between the commit and the removal of the host file leaves it behind. */
static void sealed_file_refuses_writing_beside_a_left_over_host_file(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_file(store, ROOT, "a", "abc", 3);
    char name[32];
    struct store_attr attr = {.size = 0};
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)id);
    int fd = openat(store->staging_fd, name, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    assert_int_equal(store_writer_open(store, id), -EPERM);
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), -EPERM);
    assert_true(holds(store, id, "abc", 3));
    assert_int_equal(store_recover(store), 0);
    assert_int_equal(examine(store).staged_files, 0);
}

/* ------------------------------------------------------------------- writers -- */

static void file_is_sealed_when_its_last_writer_lets_go(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t id = create(store, ROOT, "a");
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_write(store, id, "one", 3, 0), 3);
    store_writer_close(store, id);
    assert_int_equal(store_seal(store, id), -EBUSY);
    assert_int_equal(store_write(store, id, "two", 3, 3), 3);
    assert_false(is_sealed(store, id));
    store_writer_close(store, id);
    assert_true(gets_sealed(fixture, id));
    assert_int_equal(store_writer_open(store, id), -EPERM);
    assert_true(holds(store, id, "onetwo", 6));
    assert_true(wait_for(has_call, fixture));
    assert_int_equal(sealed_calls(fixture), 1);
}

/* Whoever seals in so many words knows it; only what happens behind its back is told. */
static void explicit_seal_is_not_told(void **state)
{
    struct fixture *fixture = *state;
    uint64_t id = create(fixture->store, ROOT, "a");
    assert_int_equal(store_seal(fixture->store, id), 0);
    fixture_close(fixture);
    assert_int_equal(sealed_calls(fixture), 0);
    fixture_open(fixture);
}

/* store_seal() waits for a seal that is under way: it returns when the content is durable. */
static void seal_waits_for_the_one_in_the_background(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char *bytes = random_bytes(1, 1 << 20);
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        uint64_t id = write_unsealed(store, ROOT, name, bytes, 1 << 20);
        assert_int_equal(store_writer_open(store, id), 0);
        store_writer_close(store, id);
        assert_int_equal(store_seal(store, id), 0);
        assert_true(is_sealed(store, id));
        assert_true(holds(store, id, bytes, 1 << 20));
    }
    free(bytes);
}

static void closing_the_store_finishes_what_is_to_be_sealed(void **state)
{
    struct fixture *fixture = *state;
    uint64_t ids[50];
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        ids[i] = write_unsealed(fixture->store, ROOT, name, "bytes", 5);
        assert_int_equal(store_writer_open(fixture->store, ids[i]), 0);
        store_writer_close(fixture->store, ids[i]);
    }
    fixture_reopen(fixture);
    for (int i = 0; i < 50; i++)
        assert_true(is_sealed(fixture->store, ids[i]));
    assert_int_equal(sealed_calls(fixture), 50);
}

static void only_regular_files_have_writers(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    assert_int_equal(store_writer_open(store, ROOT), -EISDIR);
    assert_int_equal(store_symlink(store, ROOT, "l", "t", &OWNER_FILE, &attr), 0);
    assert_int_equal(store_writer_open(store, attr.id), -EINVAL);
    assert_int_equal(store_writer_open(store, 123456), -ENOENT);
    assert_int_equal(store_seal(store, 123456), -ENOENT);
    assert_int_equal(store_seal(store, ROOT), 0);
    assert_int_equal(store_seal(store, attr.id), 0);
    store_writer_close(store, 123456);
}

/* ---------------------------------------------------------------- empty files -- */

static void empty_file_takes_writers_again(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t id = create(store, ROOT, "a");
    assert_int_equal(store_seal(store, id), 0);
    assert_true(has_hash(store, id, "", 0));
    for (int i = 0; i < 3; i++) { /* nothing written: nothing changes */
        assert_int_equal(store_writer_open(store, id), 0);
        store_writer_close(store, id);
        assert_true(is_sealed(store, id));
    }
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_write(store, id, "now", 3, 0), 3);
    assert_false(is_sealed(store, id));
    assert_true(holds(store, id, "now", 3));
    store_writer_close(store, id);
    assert_true(gets_sealed(fixture, id));
    assert_true(has_hash(store, id, "now", 3));
    assert_int_equal(store_writer_open(store, id), -EPERM);
}

/* As somebody does who truncates a file by its name. */
static void set_size(struct store *store, uint64_t id, uint64_t size)
{
    struct store_attr attr = {.size = size};
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), 0);
    store_writer_close(store, id);
}

static void change_of_size_alone_seals_nothing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr = {.size = 3000};
    uint64_t id = create(store, ROOT, "a");
    assert_int_equal(store_setattr(store, id, STORE_SET_SIZE, &attr, &attr), 0);
    assert_false(is_sealed(store, id));
    assert_int_equal(store_seal(store, id), 0);
}

static void empty_file_can_be_truncated_and_stays_one(void **state)
{
    struct fixture *fixture = *state;
    uint64_t id = create(fixture->store, ROOT, "a");
    assert_int_equal(store_seal(fixture->store, id), 0);
    set_size(fixture->store, id, 0);
    assert_true(gets_sealed(fixture, id));
    assert_true(holds(fixture->store, id, "", 0));
    /* Grown, it is a file of zeros, and final once nobody holds it. */
    set_size(fixture->store, id, 3000);
    assert_true(gets_sealed(fixture, id));
    char zeros[3000] = {0};
    assert_true(holds(fixture->store, id, zeros, sizeof(zeros)));
}

/* --------------------------------------------------------------------- held -- */

static void file_in_staging_is_held(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t directory = make_directory(store, STAGING, "d");
    uint64_t id = write_unsealed(store, directory, "a", "abc", 3);
    uint64_t other = write_unsealed(store, ROOT, "o", "o", 1);
    assert_true(attr_of(store, id).held);
    assert_int_equal(store_writer_open(store, id), 0);
    store_writer_close(store, id);
    /* The other one comes behind it, if it came at all. */
    assert_int_equal(store_writer_open(store, other), 0);
    store_writer_close(store, other);
    assert_true(gets_sealed(fixture, other));
    assert_false(attr_of(store, id).open);
    assert_false(is_sealed(store, id));
    assert_int_equal(store_write(store, id, "d", 1, 3), 1);
    /* Within staging it moves, and is linked, freely. */
    struct store_attr attr;
    assert_int_equal(store_rename(store, directory, "a", STAGING, "b", 0), 0);
    assert_int_equal(store_link(store, id, directory, "c", &attr), 0);
    assert_true(attr.held);
    fixture_reopen(fixture);
    assert_true(attr_of(fixture->store, id).held);
    assert_true(holds(fixture->store, id, "abcd", 4));
}

static void file_moved_out_of_staging_is_held_no_more(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t idle = write_unsealed(store, STAGING, "idle", "abc", 3);
    uint64_t busy = write_unsealed(store, STAGING, "busy", "abc", 3);
    uint64_t linked = write_unsealed(store, STAGING, "linked", "abc", 3);
    assert_int_equal(store_writer_open(store, busy), 0);
    assert_int_equal(store_rename(store, STAGING, "idle", ROOT, "idle", 0), 0);
    assert_int_equal(store_rename(store, STAGING, "busy", ROOT, "busy", 0), 0);
    struct store_attr attr;
    assert_int_equal(store_link(store, linked, ROOT, "linked", &attr), 0);
    assert_false(attr.held);
    assert_false(attr_of(store, idle).held);
    assert_false(attr_of(store, busy).held);
    assert_int_equal(store_seal(store, idle), 0);
    assert_int_equal(store_seal(store, linked), 0);
    assert_int_equal(store_seal(store, busy), -EBUSY);
    assert_int_equal(store_write(store, busy, "d", 1, 3), 1);
    store_writer_close(store, busy);
    assert_true(gets_sealed(fixture, busy));
    assert_true(holds(store, busy, "abcd", 4));
    assert_true(holds(store, linked, "abc", 3));
}

static void exchange_with_staging_turns_both(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t in = write_unsealed(store, STAGING, "a", "in", 2);
    uint64_t out = write_unsealed(store, ROOT, "a", "out", 3);
    assert_true(attr_of(store, in).held);
    assert_false(attr_of(store, out).held);
    assert_int_equal(store_rename(store, STAGING, "a", ROOT, "a", STORE_RENAME_EXCHANGE), 0);
    assert_false(attr_of(store, in).held);
    assert_true(attr_of(store, out).held);
}

/* The most that one transaction may write decides how many a large file takes. */
static void transactions_are_as_large_as_they_may_be(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = (size_t)6 << 20;
    char *bytes = random_bytes(1, size);
    uint64_t commits[2];
    for (int small = 0; small < 2; small++) {
        fixture->options.transaction_max = small ? STORE_TRANSACTION_LEAST : 0;
        fixture_reopen(fixture);
        struct store *store = fixture->store;
        uint64_t id = write_unsealed(store, ROOT, small ? "a" : "b", bytes, size);
        struct store_stat before, after;
        assert_int_equal(store_sync(store), 0);
        assert_int_equal(store_stat(store, false, &before), 0);
        assert_int_equal(store_seal(store, id), 0);
        assert_int_equal(store_sync(store), 0);
        assert_int_equal(store_stat(store, false, &after), 0);
        commits[small] = after.commits - before.commits;
        assert_true(holds(store, id, bytes, size));
    }
    assert_int_equal(commits[0], 2);
    assert_int_equal(commits[1], 1 + 6); /* 1 MiB each */
    free(bytes);
}

/* ------------------------------------------------------------------- removal -- */

static void unlinked_file_can_be_written_until_it_is_let_go(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t id = write_unsealed(store, ROOT, "a", "abc", 3);
    assert_int_equal(store_lease(store, id), 0);
    assert_int_equal(store_writer_open(store, id), 0);
    assert_int_equal(store_unlink(store, ROOT, "a"), 0);
    assert_int_equal(store_write(store, id, "d", 1, 3), 1);
    assert_true(holds(store, id, "abcd", 4));
    store_writer_close(store, id);
    store_lease_drop(store, id, 1);
    fixture_reopen(fixture);
    assert_int_equal(examine(fixture->store).records, 2);
    assert_int_equal(examine(fixture->store).staged_files, 0);
}

static void file_removed_while_it_is_sealed_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    char *bytes = random_bytes(1, 300000);
    for (unsigned i = 0; i < scaled(100, 20); i++) {
        uint64_t id = write_unsealed(fixture->store, ROOT, "a", bytes, i % 2 ? 100 : 300000);
        assert_int_equal(store_writer_open(fixture->store, id), 0);
        store_writer_close(fixture->store, id);
        assert_int_equal(store_unlink(fixture->store, ROOT, "a"), 0);
    }
    fixture_reopen(fixture);
    struct examined examined = examine(fixture->store);
    assert_int_equal(examined.records, 2);
    assert_int_equal(examined.extents, 0);
    assert_int_equal(examined.orphans, 0);
    assert_int_equal(examined.staged_files, 0);
    free(bytes);
}

/* -------------------------------------------------------------------- races -- */

#define RACERS 4

struct race {
    struct store *store;
    uint64_t id;
    pthread_barrier_t start;
    atomic_uint length; /* bytes appended so far */
};

/* Opens the file for writing as long as it is allowed, one byte each time. */
static void *write_while_allowed(void *arg)
{
    struct race *race = arg;
    pthread_barrier_wait(&race->start);
    for (;;) {
        int r = store_writer_open(race->store, race->id);
        if (r == -EPERM)
            return NULL;
        must(r == 0);
        unsigned at = atomic_fetch_add(&race->length, 1);
        must(store_write(race->store, race->id, "x", 1, at) == 1);
        store_writer_close(race->store, race->id);
        if (at > 100) { /* others never let go: let it be sealed */
            while (store_seal(race->store, race->id) == -EBUSY)
                sched_yield();
        }
    }
}

/* Whoever was allowed to open has its byte in the sealed content. */
static void writer_is_refused_or_heard(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned round = 0; round < scaled(150, 30); round++) {
        char name[16], expected[4096];
        snprintf(name, sizeof(name), "%u", round);
        struct race race = {.store = fixture->store, .id = create(fixture->store, ROOT, name)};
        pthread_t threads[RACERS];
        pthread_barrier_init(&race.start, NULL, RACERS);
        for (int i = 0; i < RACERS; i++)
            must(pthread_create(&threads[i], NULL, write_while_allowed, &race) == 0);
        for (int i = 0; i < RACERS; i++)
            pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&race.start);
        memset(expected, 'x', sizeof(expected));
        assert_true(is_sealed(fixture->store, race.id));
        assert_true(race.length < sizeof(expected));
        assert_true(holds(fixture->store, race.id, expected, race.length));
    }
    assert_int_equal(examine(fixture->store).staged_files, 0);
}

struct files {
    struct store *store;
    uint64_t directory;
    atomic_uint written; /* names below this one have all their bytes */
    atomic_bool stop;
    unsigned count;
};

#define FILE_BYTES 3000

static void *make_and_seal(void *arg)
{
    struct files *files = arg;
    char bytes[FILE_BYTES] = {1};
    for (unsigned i = 0; i < files->count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", i);
        uint64_t id = write_unsealed(files->store, files->directory, name, bytes, FILE_BYTES);
        must(store_writer_open(files->store, id) == 0);
        atomic_store(&files->written, i + 1);
        store_writer_close(files->store, id);
    }
    atomic_store(&files->stop, true);
    return NULL;
}

struct sizes {
    unsigned below; /* the names that must have their bytes */
    unsigned seen;
};

static bool check_size(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                       const struct store_attr *attr)
{
    (void)id, (void)type, (void)next;
    struct sizes *sizes = arg;
    unsigned number = (unsigned)atoi(name);
    sizes->seen += number < sizes->below;
    must(number >= sizes->below || attr->size == FILE_BYTES);
    return true;
}

static void *list_often(void *arg)
{
    struct files *files = arg;
    while (!atomic_load(&files->stop)) {
        struct sizes sizes = {.below = atomic_load(&files->written)};
        must(store_readdir(files->store, files->directory, 0, true, check_size, &sizes) == 0);
        must(sizes.seen == sizes.below);
    }
    return NULL;
}

static void *look_up_often(void *arg)
{
    struct files *files = arg;
    char bytes[FILE_BYTES + 1];
    while (!atomic_load(&files->stop)) {
        unsigned written = atomic_load(&files->written);
        for (unsigned i = written > 5 ? written - 5 : 0; i < written; i++) {
            char name[16];
            struct store_attr attr;
            snprintf(name, sizeof(name), "%u", i);
            must(store_lookup(files->store, files->directory, name, &attr) == 0);
            must(attr.size == FILE_BYTES);
            must(store_getattr(files->store, attr.id, &attr) == 0);
            must(attr.size == FILE_BYTES);
            must(store_read(files->store, attr.id, bytes, sizeof(bytes), 0) == FILE_BYTES);
        }
    }
    return NULL;
}

/* Between the host file and the record no look at a file sees neither. */
static void nobody_sees_a_file_without_its_bytes_while_it_is_sealed(void **state)
{
    struct fixture *fixture = *state;
    struct files files = {.store = fixture->store,
                          .directory = make_directory(fixture->store, ROOT, "d"),
                          .count = scaled(500, 100)};
    void *(*const work[])(void *) = {make_and_seal, list_often, look_up_often, look_up_often};
    pthread_t threads[array_length(work)];
    for (size_t i = 0; i < array_length(work); i++)
        must(pthread_create(&threads[i], NULL, work[i], &files) == 0);
    for (size_t i = 0; i < array_length(work); i++)
        pthread_join(threads[i], NULL);
}

struct publisher {
    struct store *store;
    uint64_t id;
    pthread_barrier_t start;
};

static void *let_go(void *arg)
{
    struct publisher *publisher = arg;
    pthread_barrier_wait(&publisher->start);
    store_writer_close(publisher->store, publisher->id);
    return NULL;
}

/* The last writer lets go at any moment of the way out of staging: the file is sealed. */
static void file_published_while_its_writer_lets_go_is_sealed(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    for (unsigned round = 0; round < scaled(300, 60); round++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", round);
        uint64_t directory = make_directory(store, STAGING, name);
        struct publisher publisher = {.store = store,
                                      .id = write_unsealed(store, directory, "f", "abc", 3)};
        pthread_t thread;
        assert_int_equal(store_writer_open(store, publisher.id), 0);
        pthread_barrier_init(&publisher.start, NULL, 2);
        must(pthread_create(&thread, NULL, let_go, &publisher) == 0);
        pthread_barrier_wait(&publisher.start);
        assert_int_equal(store_settle_staged(store, NULL, NULL), 0);
        assert_int_equal(store_rename(store, STAGING, name, ROOT, name, 0), 0);
        pthread_join(thread, NULL);
        pthread_barrier_destroy(&publisher.start);
        assert_true(gets_sealed(fixture, publisher.id));
    }
}

/* The host file, as somebody else has it who got its descriptor. */
static int open_past_the_store(struct store *store, uint64_t id, bool writes, int flags)
{
    char path[64];
    int fd = store_staging_file(store, id, writes);
    if (fd < 0)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int other = open(path, flags | O_CLOEXEC);
    must(other >= 0);
    close(fd);
    return other;
}

static void file_written_past_the_store_is_not_final(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    const char *bytes = "some bytes that nobody has seen pass by";
    uint64_t id = create(store, ROOT, "file");
    assert_int_equal(store_staging_file(store, id, false), -ENOENT);
    assert_int_equal(store_writer_open(store, id), 0);
    int writer = open_past_the_store(store, id, true, O_RDWR);
    int reader = open_past_the_store(store, id, false, O_RDONLY);
    assert_true(writer >= 0 && reader >= 0);
    store_writer_close(store, id);
    assert_int_equal(store_seal(store, id), -EBUSY);
    assert_int_equal(write(writer, bytes, strlen(bytes)), strlen(bytes));
    assert_int_equal(attr_of(store, id).size, strlen(bytes));
    assert_false(is_sealed(store, id));
    close(writer);
    assert_true(gets_sealed(fixture, id));
    assert_int_equal(store_sync(store), 0);
    assert_true(has_hash(store, id, bytes, strlen(bytes)));
    char buffer[64];
    assert_int_equal(pread(reader, buffer, sizeof(buffer), 0), strlen(bytes));
    assert_memory_equal(buffer, bytes, strlen(bytes));
    close(reader);
    assert_int_equal(store_staging_file(store, id, false), -ENOENT);
}

static void what_is_in_memory_goes_to_the_host_file(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = write_unsealed(store, ROOT, "file", "12345", 5);
    struct store_attr before = attr_of(store, id);
    assert_int_equal(store_staging_file(store, id, false), -ENOENT);
    assert_int_equal(store_writer_open(store, id), 0);
    int writer = open_past_the_store(store, id, true, O_WRONLY);
    assert_int_equal(attr_of(store, id).mtime.tv_sec, before.mtime.tv_sec);
    assert_int_equal(attr_of(store, id).mtime.tv_nsec, before.mtime.tv_nsec);
    assert_int_equal(pwrite(writer, "678", 3, 5), 3);
    assert_int_equal(store_write(store, id, "9", 1, 8), 1);
    close(writer);
    store_writer_close(store, id);
    assert_int_equal(store_seal(store, id), 0);
    char buffer[16] = "";
    assert_int_equal(store_read(store, id, buffer, sizeof(buffer), 0), 9);
    assert_string_equal(buffer, "123456789");
}

/* The host file that a reader has open is the one that the next writer gets. */
static void empty_file_keeps_its_host_file_for_a_reader(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t id = create(store, ROOT, "file");
    assert_int_equal(store_writer_open(store, id), 0);
    close(open_past_the_store(store, id, true, O_WRONLY));
    int reader = open_past_the_store(store, id, false, O_RDONLY);
    store_writer_close(store, id);
    assert_int_equal(store_seal(store, id), 0);
    assert_true(is_sealed(store, id));
    assert_int_equal(store_sync(store), 0);
    assert_int_equal(store_writer_open(store, id), 0);
    int writer = open_past_the_store(store, id, true, O_WRONLY);
    assert_int_equal(write(writer, "new", 3), 3);
    char buffer[4];
    assert_int_equal(pread(reader, buffer, sizeof(buffer), 0), 3);
    close(writer);
    close(reader);
    store_writer_close(store, id);
    assert_int_equal(store_seal(store, id), 0);
    assert_int_equal(attr_of(store, id).size, 3);
}

int main(void)
{
    signal(SIGIO, SIG_IGN); /* see store_staging_file() */
    const struct CMUnitTest tests[] = {
        test_with_store(file_of_every_size_is_sealed_with_its_hash),
        test_with_store(sealed_file_refuses_all_writing),
        test_with_store(sealed_file_refuses_writing_beside_a_left_over_host_file),
        test_with_store(file_is_sealed_when_its_last_writer_lets_go),
        test_with_store(explicit_seal_is_not_told),
        test_with_store(seal_waits_for_the_one_in_the_background),
        test_with_store(closing_the_store_finishes_what_is_to_be_sealed),
        test_with_store(only_regular_files_have_writers),
        test_with_store(empty_file_takes_writers_again),
        test_with_store(change_of_size_alone_seals_nothing),
        test_with_store(empty_file_can_be_truncated_and_stays_one),
        test_with_store(file_in_staging_is_held),
        test_with_store(file_moved_out_of_staging_is_held_no_more),
        test_with_store(exchange_with_staging_turns_both),
        test_with_store(transactions_are_as_large_as_they_may_be),
        test_with_store(unlinked_file_can_be_written_until_it_is_let_go),
        test_with_store(file_removed_while_it_is_sealed_leaves_nothing),
        test_with_store(writer_is_refused_or_heard),
        test_with_store(nobody_sees_a_file_without_its_bytes_while_it_is_sealed),
        test_with_store(file_written_past_the_store_is_not_final),
        test_with_store(what_is_in_memory_goes_to_the_host_file),
        test_with_store(empty_file_keeps_its_host_file_for_a_reader),
        test_with_store(file_published_while_its_writer_lets_go_is_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
