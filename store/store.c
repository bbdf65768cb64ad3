/* SPDX-License-Identifier: BSD-2-Clause */
/* store.c: open and close a store. */
#include "store.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "keeper.h"
#include "lease.h"
#include "meta.h"
#include "opening.h"
#include "pending.h"
#include "reap.h"
#include "reserve.h"
#include "seal.h"
#include "staged.h"
#include "staging.h"
#include "sweep.h"
#include "trim.h"
#include "unseal.h"
#include "verify.h"

static int open_environment(const struct opening *opening, struct store *store, bool *fresh)
{
    int r =
        env_open(opening->path, store->read_only, opening->options->map_size, &store->env, fresh);
    if (r < 0)
        return refuse(opening, r,
                      r == -EINVAL ? DATA_FILE " is damaged or not an LMDB file: %s"
                                   : "cannot open " DATA_FILE ": %s",
                      strerror(-r));
    store->page_size = env_page_size(store->env);
    store->inline_max = layout_inline_max(store->page_size);
    return format_open(opening, store, *fresh);
}

static int open_staging(const struct opening *opening, struct store *store, bool *fresh)
{
    int made = store->read_only ? -1 : mkdirat(store->dir_fd, STAGING_DIR, 0700);
    if (!store->read_only && made < 0 && errno != EEXIST)
        return refuse(opening, -errno, "cannot make " STAGING_DIR ": %s", strerror(errno));
    *fresh |= made == 0;
    store->staging_fd = openat(store->dir_fd, STAGING_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->staging_fd < 0 && !store->read_only)
        return refuse(opening, -errno, "cannot open " STAGING_DIR ": %s", strerror(errno));
    return 0;
}

/* How long changes are pending at most, if the caller doesn't say: long enough to share a commit,
 * which is a few milliseconds on most disks; too short to be noticed. */
#define COMMIT_MS 50

/* Memory for changes that are pending, and for the bytes of small files beside them, if the caller
 * doesn't say. */
#define PENDING_BYTES ((size_t)4 << 20)

/* What is synced in a file later is durable only under a name that is. */
static int sync_names(const struct opening *opening, struct store *store)
{
    if (fsync(store->dir_fd) < 0)
        return refuse(opening, -errno, "cannot sync the directory: %s", strerror(errno));
    /* The name of the directory itself, as far as we may. */
    cleanup_fd int parent = openat(store->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0)
        (void)fsync(parent);
    return 0;
}

static int start_threads(const struct opening *opening, struct store *store)
{
    const struct store_options *options = opening->options;
    size_t pending_bytes = options->pending_max == 0 ? PENDING_BYTES : options->pending_max;
    const struct pending_limits limits = {
        .wait_ms = options->commit_ms == 0 ? COMMIT_MS : options->commit_ms,
        .bytes = pending_bytes / 2,
        .sync = options->sync,
    };
    store->leases = leases_new(options->leases_max);
    store->writers = writers_new();
    store->staged = staged_new(pending_bytes / 2);
    store->reserve = reserve_new(store->dir_fd);
    store->unsealed_files = unsealed_new();
    store->sweeps = sweeps_new();
    bool memory = store->leases != NULL && store->writers != NULL && store->staged != NULL &&
                  store->reserve != NULL && store->unsealed_files != NULL && store->sweeps != NULL;
    int r = memory ? 0 : -ENOMEM;
    if (r == 0)
        r = writer_start(store->env, store->transaction_max, meta_save, store, &store->writer);
    if (r == 0)
        r = pending_start(store, &limits, &store->pending);
    if (r == 0)
        r = keeper_start(store, &store->keeper);
    return r < 0 ? refuse(opening, r, "cannot start: %s", strerror(-r)) : 0;
}

static int open_all(const struct opening *opening, struct store *store)
{
    bool fresh = false;
    int r = directory_open(opening, &store->dir_fd);
    if (r == 0)
        r = directory_check(opening, store->dir_fd);
    if (r == 0 && !store->read_only)
        r = owner_take(opening, store->dir_fd, &store->owner_fd);
    if (r == 0)
        r = open_environment(opening, store, &fresh);
    if (r == 0)
        r = open_staging(opening, store, &fresh);
    if (r == 0 && fresh)
        r = sync_names(opening, store);
    if (r == 0 && !store->read_only)
        r = start_threads(opening, store);
    return r;
}

int store_open(const char *path, const struct store_options *options, struct store **out,
               char why[STORE_WHY_MAX])
{
    struct opening opening = {path, options, why};
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return refuse(&opening, -ENOMEM, "out of memory");
    store->dir_fd = store->staging_fd = store->owner_fd = store->direct_fd = -1;
    store->read_only = options->read_only;
    store->verify = options->verify;
    store->transaction_max = WRITER_BYTES_MAX;
    if (options->transaction_max != 0 && options->transaction_max < WRITER_BYTES_MAX)
        store->transaction_max = options->transaction_max;
    store->sealed = options->sealed;
    store->unsealed = options->unsealed;
    store->crowded = options->crowded;
    store->warn = options->warn;
    store->arg = options->arg;
    store->verified = verified_new();
    int r = store->verified == NULL ? refuse(&opening, -ENOMEM, "out of memory")
                                    : open_all(&opening, store);
    if (r < 0) {
        store_close(store);
        return r;
    }
    *out = store;
    return 0;
}

/* What fails here is done by the next start. */
static void finish(struct store *store)
{
    /* Nobody holds a lease on a closed store. */
    leases_free(store->leases);
    store->leases = leases_new(0);
    if (store->leases != NULL)
        (void)reap_all(store);
    int r = staging_settle(store);
    if (r < 0)
        store_warn(store, "cannot keep the bytes of unfinished files: %s", strerror(-r));
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    owner_leaving(store->owner_fd);
    sweep_stop(store);
    keeper_stop(store->keeper);
    if (store->pending != NULL)
        finish(store);
    pending_stop(store->pending);
    keeper_free(store->keeper);
    writer_stop(store->writer);
    writers_free(store->writers);
    staged_free(store->staged);
    unsealed_free(store->unsealed_files);
    sweeps_free(store->sweeps);
    reserve_free(store->reserve);
    leases_free(store->leases);
    verified_free(store->verified);
    env_close(store->env);
    cleanup_fd_p(&store->direct_fd);
    cleanup_fd_p(&store->owner_fd);
    cleanup_fd_p(&store->staging_fd);
    cleanup_fd_p(&store->dir_fd);
    free(store);
}

bool store_is_read_only(const struct store *store)
{
    return store->read_only;
}

/* Reads last for milliseconds, those of `lmdbfs check` and its like for tens of them; somebody
 * else's, with an LMDB binding, could last for ever. */
#define READERS_PAUSE_NS 10000000
#define READERS_PAUSES 100

/* Give the disk the store's free pages back until `enough` says 0 or nothing more can be done. */
static int trim_until(struct store *store, int (*enough)(void *arg), void *arg)
{
    int r = enough(arg);
    for (int pauses = 0; r == -ENOSPC && pauses < READERS_PAUSES; pauses++) {
        int more = trim(store);
        if (more < 0)
            break;
        r = enough(arg);
        if (more == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = READERS_PAUSE_NS}, NULL);
    }
    return r;
}

struct transaction {
    struct store *store;
    writer_fn *change;
    void *arg;
    size_t bytes;
};

/* Some hundred pages of the tree and of LMDB's free list. */
#define TREE_RESERVE ((uint64_t)2 << 20)

/* Bytes; as many as can be, if it can't be told. */
static uint64_t disk_free(struct store *store)
{
    struct statvfs fs;
    return fstatvfs(store->dir_fd, &fs) < 0 ? UINT64_MAX : (uint64_t)fs.f_bavail * fs.f_frsize;
}

static int run(void *arg)
{
    struct transaction *transaction = arg;
    struct store *store = transaction->store;
    int r = writer_run(store->writer, transaction->change, transaction->arg, transaction->bytes);
    /* What LMDB says when the disk takes only a part of what it writes. */
    return r == -EIO && disk_free(store) < transaction->bytes + TREE_RESERVE ? -ENOSPC : r;
}

static int run_with_room(void *arg)
{
    struct transaction *transaction = arg;
    int r = trim_until(transaction->store, run, transaction);
    if (r == -ENOSPC && reserve_release(transaction->store->reserve))
        r = run(transaction);
    return r;
}

int store_transact(struct store *store, writer_fn *change, void *arg, size_t bytes)
{
    struct transaction transaction = {store, change, arg, bytes};
    return store->read_only ? -EROFS : run_with_room(&transaction);
}

int store_transact_alone(struct store *store, writer_fn *change, void *arg, size_t bytes)
{
    struct transaction transaction = {store, change, arg, bytes};
    return store->read_only ? -EROFS : pending_exclude(store->pending, run_with_room, &transaction);
}

int store_change(struct store *store, writer_fn *change, void *arg)
{
    return store->read_only ? -EROFS : pending_change(store->pending, change, arg, true);
}

int store_change_unsettled(struct store *store, writer_fn *change, void *arg)
{
    return store->read_only ? -EROFS : pending_change(store->pending, change, arg, false);
}

int store_settle(struct store *store)
{
    return store->read_only ? 0 : pending_settle(store->pending);
}

void store_hurry(struct store *store)
{
    if (!store->read_only)
        pending_hurry(store->pending);
}

int store_sync(struct store *store)
{
    return store->read_only ? 0 : pending_sync(store->pending);
}

/* Pages that a change of the tree makes new, at most: those on the way to a record, to an entry and
 * to an orphan. */
#define CHANGE_PAGES 8

static uint64_t promises(struct store *store)
{
    struct pending_stat pending;
    pending_stat(store->pending, &pending);
    return atomic_load(&store->promised) + staged_bytes(store->staged) +
           (pending.changes - pending.committed) * CHANGE_PAGES * store->page_size;
}

struct room {
    struct store *store;
    uint64_t bytes;
    bool promise; /* a new one: beside what was promised, and what is kept for the tree */
};

static int has_room(void *arg)
{
    struct room *room = arg;
    uint64_t there = disk_free(room->store), kept = reserve_bytes(room->store->reserve);
    uint64_t wanted = room->bytes + (room->promise ? promises(room->store) + TREE_RESERVE : 0);
    return there < wanted && there + kept < wanted ? -ENOSPC : 0;
}

int store_room_promised(struct store *store, uint64_t bytes)
{
    struct room room = {store, bytes, false};
    int r = trim_until(store, has_room, &room);
    if (r == 0)
        reserve_let(store->reserve, bytes + TREE_RESERVE / 2);
    return r;
}

/* Beside promises; bytes. With so much, nobody fills the disk before we look the next time. */
#define PLENTY ((uint64_t)256 << 20)

/* What they may take of the reserve in the moments when it is let go to be used; bytes. */
#define EATEN ((uint64_t)32 << 20)

bool store_has_plenty(struct store *store)
{
    struct room room = {store, PLENTY, true};
    return has_room(&room) == 0;
}

int store_room_keep(struct store *store)
{
    struct reserve *reserve = store->reserve;
    if (!reserve_begun(reserve))
        return 0;
    if (store_has_plenty(store))
        return reserve_keep(reserve, TREE_RESERVE);
    uint64_t needed = promises(store) + TREE_RESERVE;
    if (reserve_keep(reserve, needed + EATEN) == 0 || reserve_keep(reserve, needed) == 0)
        return 0;
    (void)reserve_keep(reserve, TREE_RESERVE);
    return -ENOSPC;
}

int store_room(struct store *store, uint64_t bytes)
{
    struct room room = {store, bytes, true};
    int r = has_room(&room);
    if (r != -ENOSPC)
        return r;
    r = store_sync(store);
    return r < 0 ? r : trim_until(store, has_room, &room);
}

void store_warn(struct store *store, const char *format, ...)
{
    char line[STORE_WHY_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (store->warn != NULL)
        store->warn(store->arg, line);
    else
        fprintf(stderr, "lmdbfs: %s\n", line);
}
