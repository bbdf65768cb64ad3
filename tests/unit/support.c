/* SPDX-License-Identifier: BSD-2-Clause */
#include "support.h"

#include "store/meta.h"

#include <ftw.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statfs.h>

void support_die(const char *file, int line, const char *what, int error)
{
    fprintf(stderr, "%s:%d: %s does not hold (errno: %s)\n", file, line, what, strerror(error));
    abort();
}

/* ----------------------------------------------------------------- stores -- */

/* Stores live on disks: a tmpfs has no O_DIRECT, no real fsync, and other free space. */
static const char *disk(void)
{
    const char *place = getenv("TMPDIR");
    struct statfs fs;
    bool usable = place != NULL && statfs(place, &fs) == 0 && fs.f_type != TMPFS_MAGIC &&
                  fs.f_type != RAMFS_MAGIC;
    return usable ? place : "/var/tmp";
}

static void note_warning(void *arg, const char *line)
{
    struct fixture *fixture = arg;
    with_mutex(&fixture->lock);
    snprintf(fixture->warning, sizeof(fixture->warning), "%s", line);
}

static void note_sealed(void *arg, uint64_t id)
{
    (void)id;
    struct fixture *fixture = arg;
    with_mutex(&fixture->lock);
    fixture->sealed++;
}

int fixture_setup_empty(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    must(fixture != NULL);
    pthread_mutex_init(&fixture->lock, NULL);
    snprintf(fixture->directory, sizeof(fixture->directory), "%.200s/lmdbfs-unit-XXXXXX", disk());
    must(mkdtemp(fixture->directory) != NULL);
    snprintf(fixture->path, sizeof(fixture->path), "%s/store", fixture->directory);
    fixture->options = (struct store_options){
        .create = true,
        .purpose = "a unit test",
        .sealed = note_sealed,
        .warn = note_warning,
        .arg = fixture,
    };
    *state = fixture;
    return 0;
}

int fixture_setup(void **state)
{
    fixture_setup_empty(state);
    fixture_open(*state);
    return 0;
}

static void tell_problem(void *arg, const char *path, const char *text)
{
    (void)arg;
    fprintf(stderr, "store_check(): %s: %s\n", path, text);
}

/* Sound by our own examination, and by the store's. */
static void check(struct store *store)
{
    const struct store_observer observer = {.message = tell_problem};
    struct store_work work = {0};
    (void)examine(store);
    assert_int_equal(store_check(store, &observer, &work), 0);
    assert_int_equal(work.problems, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->store != NULL) {
        if (!store_is_read_only(fixture->store))
            fixture_reopen(fixture);
        check(fixture->store);
        fixture_close(fixture);
    }
    assert_string_equal(fixture->warning, "");
    nftw(fixture->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return 0;
}

void fixture_open(struct fixture *fixture)
{
    char why[STORE_WHY_MAX] = "";
    int r = store_open(fixture->path, &fixture->options, &fixture->store, why);
    if (r != 0)
        fail_msg("cannot open the store: %s (%s)", why, strerror(-r));
}

void fixture_close(struct fixture *fixture)
{
    store_close(steal_pointer(&fixture->store));
}

void fixture_reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

static long pretended_page_size;

void pretend_page_size(long bytes)
{
    pretended_page_size = bytes;
}

/* LMDB asks this for the page size of a new environment; a program's own functions come before
 * those of the C library. Sanitizers call it before they are ready to be called. */
extern long __sysconf(int name);
__attribute__((no_sanitize("address", "thread", "undefined"))) long sysconf(int name)
{
    return name == _SC_PAGESIZE && pretended_page_size != 0 ? pretended_page_size : __sysconf(name);
}

/* ------------------------------------------------------------------ files -- */

uint64_t write_unsealed(struct store *store, uint64_t parent, const char *name, const void *bytes,
                        size_t size)
{
    struct store_attr attr;
    must(store_create(store, parent, name, &OWNER_FILE, &attr) == 0);
    if (size > 0)
        must(store_write(store, attr.id, bytes, size, 0) == (ssize_t)size);
    return attr.id;
}

uint64_t write_file(struct store *store, uint64_t parent, const char *name, const void *bytes,
                    size_t size)
{
    char temporary[32];
    snprintf(temporary, sizeof(temporary), ".new-%lx", (unsigned long)pthread_self());
    uint64_t id = write_unsealed(store, parent, temporary, bytes, size);
    must(store_seal(store, id) == 0);
    must(store_rename(store, parent, temporary, parent, name, 0) == 0);
    return id;
}

uint64_t make_directory(struct store *store, uint64_t parent, const char *name)
{
    struct store_attr attr;
    must(store_mkdir(store, parent, name, &OWNER_DIR, &attr) == 0);
    return attr.id;
}

bool holds(struct store *store, uint64_t id, const void *bytes, size_t size)
{
    static const size_t pieces[] = {1, 4095, 4097, 65536, 1000003};
    char *found = malloc(1000003);
    must(found != NULL);
    size_t offset = 0;
    bool same = true;
    for (size_t i = 0; same; i = (i + 1) % array_length(pieces)) {
        size_t left = size - offset;
        size_t expected = left < pieces[i] ? left : pieces[i];
        ssize_t n = store_read(store, id, found, pieces[i], (off_t)offset);
        same = n == (ssize_t)expected && memcmp(found, (char *)bytes + offset, expected) == 0;
        if (expected == 0)
            break;
        offset += expected;
    }
    free(found);
    return same;
}

struct store_attr attr_of(struct store *store, uint64_t id)
{
    struct store_attr attr;
    must(store_getattr(store, id, &attr) == 0);
    return attr;
}

uint64_t id_of(struct store *store, uint64_t parent, const char *name)
{
    struct store_attr attr;
    int r = store_lookup(store, parent, name, &attr);
    must(r == 0 || r == -ENOENT);
    return r == 0 ? attr.id : 0;
}

int host_file(const void *bytes, size_t size)
{
    int fd = memfd_create("payload", MFD_CLOEXEC);
    must(fd >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)bytes + done, size - done, (off_t)done);
        must(n > 0);
        done += (size_t)n;
    }
    return fd;
}

/* ----------------------------------------------------------- transactions -- */

static struct view *new_view(void)
{
    struct view *view = calloc(1, sizeof(*view));
    must(view != NULL);
    return view;
}

struct view *begin_change(struct store *store)
{
    struct view *view = new_view();
    MDB_txn *txn = NULL;
    must(store_sync(store) == 0 && env_write_begin(store->env, &txn) == 0);
    *view = view_of_transaction(store->env, txn);
    return view;
}

void commit_change(struct store *store, struct view *view)
{
    must(meta_save(view, store) == 0 && env_write_commit(store->env, view->txn) == 0);
    free(view);
}

void abort_change(struct view *view)
{
    mdb_txn_abort(view->txn);
    free(view);
}

struct view *begin_read(struct store *store)
{
    struct view *view = new_view();
    must(view_open(store, view) == 0);
    return view;
}

void end_read(struct store *store, struct view *view)
{
    (void)store;
    view_close(view);
    free(view);
}

int env_read(struct env *env, struct env_read *read)
{
    read->env = env;
    return env_read_begin(env, &read->txn);
}

void env_read_done(struct env_read *read)
{
    if (read->txn != NULL)
        env_read_end(read->env, read->txn);
    read->txn = NULL;
}

/* ------------------------------------------------------------- randomness -- */

/* splitmix64: every 64-bit state is as good as any other. */
static uint64_t step(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t process_seed;

static void choose_seed(void)
{
    const char *text = getenv("LMDBFS_TEST_SEED");
    if (text != NULL)
        process_seed = strtoull(text, NULL, 0);
    else
        must(getrandom(&process_seed, sizeof(process_seed), 0) == sizeof(process_seed));
    fprintf(stderr, "LMDBFS_TEST_SEED=%#llx\n", (unsigned long long)process_seed);
}

struct random random_new(uint64_t salt)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose_seed);
    struct random random = {process_seed ^ salt * UINT64_C(0xD6E8FEB86659FD93)};
    step(&random.state);
    return random;
}

uint64_t random_next(struct random *random)
{
    return step(&random->state);
}

uint64_t random_below(struct random *random, uint64_t limit)
{
    return step(&random->state) % limit;
}

void random_fill(uint64_t seed, void *bytes, size_t size)
{
    uint64_t state = seed;
    for (size_t done = 0; done < size;) {
        uint64_t word = step(&state);
        size_t n = size - done < sizeof(word) ? size - done : sizeof(word);
        memcpy((char *)bytes + done, &word, n);
        done += n;
    }
}

char *random_bytes(uint64_t seed, size_t size)
{
    char *bytes = malloc(size + 1); /* of 0 bytes too */
    must(bytes != NULL);
    random_fill(seed, bytes, size);
    return bytes;
}

unsigned scaled(unsigned count, unsigned least)
{
    const char *text = getenv("LMDBFS_TEST_SCALE");
    double factor = text != NULL && *text != '\0' ? strtod(text, NULL) : 1;
    unsigned n = (unsigned)(count * factor);
    return n < least ? least : n;
}

bool wait_for(bool (*done)(void *arg), void *arg)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < 10000; i++) {
        if (done(arg))
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}
