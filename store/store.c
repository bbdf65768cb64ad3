/* SPDX-License-Identifier: BSD-2-Clause */
/* store.c: open and close a store. */
#include "store.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

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
