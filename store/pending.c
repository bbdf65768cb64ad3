/* SPDX-License-Identifier: BSD-2-Clause */
#include "pending.h"

#include <stdatomic.h>

#include "commit.h"
#include "private.h"
#include "waiters.h"

/* After a commit that failed: until the next try, milliseconds. */
#define RETRY_MS 1000

/* Who waits in pending_pace(): beyond this others go on, so that not all who serve requests wait.
 */
#define PACED_MOST 16

struct pending {
    struct store *store;
    struct pending_limits limits;
    pthread_t thread;

    /* One change at a time, and none while the layers move. Taken before `layers`. */
    pthread_mutex_t order;
    /* Read: by who looks. Write: for a moment, when `order` is held too. */
    pthread_rwlock_t layers;
    struct layer *active, *frozen; /* frozen: NULL if nothing is being committed */
    _Atomic size_t active_bytes;

    pthread_mutex_t alone;  /* who excludes the others */
    pthread_mutex_t lock;   /* guards the rest */
    pthread_cond_t work;    /* for the thread */
    pthread_cond_t ended;   /* a commit has, or has begun: for who waits for room */
    struct waiters waiters; /* for their changes */
    uint64_t changes, committed;
    uint64_t wanted;   /* up to this change somebody waits */
    uint64_t taken;    /* of store->promised: what the commit under way brings in */
    unsigned paced;    /* who waits in pending_pace() */
    int64_t due;       /* of the oldest pending change; of monotonic_ms() */
    unsigned failures; /* commits that failed */
    int error;         /* of the last one, if it did */
    bool excluded;     /* no changes are made */
    bool stop;
};

/* ------------------------------------------------------------------- looking -- */

void pending_hold(struct pending *pending, struct view *view)
{
    pthread_rwlock_rdlock(&pending->layers);
    view->pending = pending;
    view->layers[0] = pending->active;
    view->layers[1] = pending->frozen;
}

void pending_release(struct pending *pending)
{
    pthread_rwlock_unlock(&pending->layers);
}

bool pending_is_frozen(struct pending *pending, MDB_dbi table, const MDB_val *key)
{
    return pending->frozen != NULL && layer_find(pending->frozen, table, key) != NULL;
}

/* ------------------------------------------------------------------ changing -- */

static size_t half(const struct pending *pending)
{
    return pending->limits.bytes / 2;
}

/* Who changes faster than the disk can take it waits here, and everybody while one is excluding the
 * others. */
static int wait_for_room(struct pending *pending)
{
    with_mutex(&pending->lock);
    unsigned failures = pending->failures;
    while (pending->error != -EROFS &&
           (pending->excluded || atomic_load(&pending->active_bytes) >= pending->limits.bytes)) {
        if (pending->failures != failures && !pending->excluded)
            return pending->error;
        pending->wanted = pending->changes;
        pthread_cond_signal(&pending->work);
        pthread_cond_wait(&pending->ended, &pending->lock);
    }
    return pending->error == -EROFS ? -EROFS : 0;
}

/* With `order` held: make what a change has done visible. Returns its number. */
static uint64_t publish(struct pending *pending, struct layer *own)
{
    pthread_rwlock_wrlock(&pending->layers);
    layer_merge(pending->active, own);
    pthread_rwlock_unlock(&pending->layers);
    atomic_store(&pending->active_bytes, pending->active->bytes);

    with_mutex(&pending->lock);
    bool first = pending->changes == pending->committed;
    uint64_t number = ++pending->changes;
    if (first)
        pending->due = monotonic_ms() + pending->limits.wait_ms;
    if (first || pending->active->bytes >= half(pending))
        pthread_cond_signal(&pending->work);
    return number;
}

/* *number: of the change if it publishes something, and somebody wants to know; else 0. */
static int change_in_order(struct pending *pending, writer_fn *change, void *arg, uint64_t *number)
{
    with_mutex(&pending->order);
    struct layer own = {0};
    bool publishes = false;
    struct view view = {
        .env = pending->store->env,
        .layers = {&own, pending->active, pending->frozen},
        .changes = &own,
        .publishes = number != NULL ? &publishes : NULL,
    };
    int r = env_read_begin(view.env, &view.txn);
    if (r < 0)
        return r;
    r = change(&view, arg);
    env_read_end(view.env, view.txn);
    uint64_t made = r == 0 && !layer_empty(&own) ? publish(pending, &own) : 0;
    if (publishes)
        *number = made;
    layer_clear(&own);
    return r;
}

/* Until the changes up to this one are committed, or couldn't be. */
static int wait_for_commit(struct pending *pending, uint64_t upto)
{
    struct waiter waiter;
    {
        with_mutex(&pending->lock);
        if (pending->committed >= upto || pending->error == -EROFS)
            return pending->committed >= upto ? 0 : -EROFS;
        waiters_join(&pending->waiters, &waiter, upto);
        if (pending->wanted < upto)
            pending->wanted = upto;
        pthread_cond_signal(&pending->work);
    }
    return waiter_wait(&waiter);
}

int pending_change(struct pending *pending, writer_fn *change, void *arg, bool settle)
{
    uint64_t number = 0;
    int r = wait_for_room(pending);
    if (r == 0)
        r = change_in_order(pending, change, arg, settle && pending->limits.sync ? &number : NULL);
    return number == 0 ? r : wait_for_commit(pending, number);
}

/* With the lock held: there is a next commit, and it will bring in so many bytes. While a very
 * large file is brought in, which takes minutes, they may be more. */
static bool is_behind(const struct pending *pending, uint64_t most)
{
    uint64_t promised = atomic_load(&pending->store->promised), half = pending->taken / 2;
    return pending->changes > pending->committed &&
           promised >= pending->taken + (half > most ? half : most);
}

void pending_pace(struct pending *pending, uint64_t most)
{
    with_mutex(&pending->lock);
    if (pending->paced == PACED_MOST)
        return;
    pending->paced++;
    while (pending->error == 0 && is_behind(pending, most)) {
        pending->wanted = pending->changes;
        pthread_cond_signal(&pending->work);
        pthread_cond_wait(&pending->ended, &pending->lock);
    }
    pending->paced--;
}

static uint64_t changes_so_far(struct pending *pending)
{
    with_mutex(&pending->lock);
    return pending->changes;
}

int pending_sync(struct pending *pending)
{
    return wait_for_commit(pending, changes_so_far(pending));
}

int pending_settle(struct pending *pending)
{
    return pending->limits.sync ? pending_sync(pending) : 0;
}

void pending_hurry(struct pending *pending)
{
    if (!pending->limits.sync)
        return;
    with_mutex(&pending->lock);
    pending->wanted = pending->changes;
    pthread_cond_signal(&pending->work);
}

/* Those who come from now on wait; those who were on their way have to be done. */
static int run_alone(struct pending *pending, int (*run)(void *arg), void *arg)
{
    for (;;) {
        int r = pending_sync(pending);
        if (r < 0)
            return r;
        with_mutex(&pending->order);
        if (pending->frozen == NULL && layer_empty(pending->active))
            return run(arg);
    }
}

static void exclude(struct pending *pending, bool others)
{
    with_mutex(&pending->lock);
    pending->excluded = others;
    pthread_cond_broadcast(&pending->ended);
}

int pending_exclude(struct pending *pending, int (*run)(void *arg), void *arg)
{
    with_mutex(&pending->alone);
    exclude(pending, true);
    int r = run_alone(pending, run, arg);
    exclude(pending, false);
    return r;
}

/* ---------------------------------------------------------------- committing -- */

static int freeze(struct pending *pending, uint64_t *upto)
{
    struct layer *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL)
        return -ENOMEM;
    with_mutex(&pending->order);
    pthread_rwlock_wrlock(&pending->layers);
    pending->frozen = pending->active;
    pending->active = fresh;
    pthread_rwlock_unlock(&pending->layers);
    atomic_store(&pending->active_bytes, 0);
    pthread_mutex_lock(&pending->lock);
    *upto = pending->changes;
    pending->due = monotonic_ms() + pending->limits.wait_ms;
    pending->taken = atomic_load(&pending->store->promised);
    pthread_cond_broadcast(&pending->ended); /* what comes now is for the next one */
    pthread_mutex_unlock(&pending->lock);
    return 0;
}

/* It is committed: the tables have it now. */
static void retire(struct pending *pending, struct commit *commit)
{
    struct layer *frozen = pending->frozen;
    {
        with_mutex(&pending->order);
        pthread_rwlock_wrlock(&pending->layers);
        commit_settle(commit, pending->active);
        pending->frozen = NULL;
        pthread_rwlock_unlock(&pending->layers);
    }
    commit_clean(commit, frozen);
    layer_clear(frozen);
    free(frozen);
}

/* It can't be committed now: so it is pending as before, under what came since. */
static void thaw(struct pending *pending)
{
    with_mutex(&pending->order);
    pthread_rwlock_wrlock(&pending->layers);
    layer_merge(pending->frozen, pending->active);
    free(pending->active);
    pending->active = pending->frozen;
    pending->frozen = NULL;
    pthread_rwlock_unlock(&pending->layers);
    atomic_store(&pending->active_bytes, pending->active->bytes);
}

static int commit_once(struct pending *pending, uint64_t *upto)
{
    cleanup(commit_free) struct commit commit = {.store = pending->store};
    int r = freeze(pending, upto);
    if (r < 0)
        return r;
    r = commit_run(&commit, pending->frozen);
    if (r == 0)
        retire(pending, &commit);
    else
        thaw(pending);
    return r;
}

static void complain(struct pending *pending, int error)
{
    const char *remedy = error == -ENOSPC ? "they stay pending until there is room"
                                          : "no more are taken; unmount, run \"lmdbfs check\"";
    store_warn(pending->store, "cannot commit the latest changes: %s; %s", strerror(-error),
               remedy);
}

/* With the lock held. */
static void note_end(struct pending *pending, int r, uint64_t upto)
{
    int before = pending->error;
    pending->taken = 0;
    pending->error = r == 0 || r == -ENOSPC || r == -ENOMEM || r == -EDQUOT ? r : -EROFS;
    if (r == 0) {
        pending->committed = upto;
        if (before != 0)
            store_warn(pending->store, "the latest changes are committed now");
    } else {
        pending->failures++;
        pending->due = monotonic_ms() + RETRY_MS;
        pending->wanted = 0;
        if (pending->error != before)
            complain(pending, r);
    }
    waiters_wake(&pending->waiters, pending->committed, pending->error);
    pthread_cond_broadcast(&pending->ended);
}

/* With the lock held: until it is time for a commit. False: no more. */
static bool wait_for_work(struct pending *pending)
{
    for (;;) {
        bool some = pending->changes > pending->committed && pending->error != -EROFS;
        if (pending->stop && (!some || pending->error != 0))
            return false;
        if (some && (pending->stop || pending->wanted > pending->committed))
            return true;
        int64_t now = monotonic_ms();
        bool much = pending->error == 0 && atomic_load(&pending->active_bytes) >= half(pending);
        if (some && (much || now >= pending->due))
            return true;
        if (!some) {
            pthread_cond_wait(&pending->work, &pending->lock);
            continue;
        }
        struct timespec until = {pending->due / 1000, pending->due % 1000 * 1000000};
        pthread_cond_timedwait(&pending->work, &pending->lock, &until);
    }
}

static void *keep_committing(void *arg)
{
    struct pending *pending = arg;
    pthread_mutex_lock(&pending->lock);
    while (wait_for_work(pending)) {
        uint64_t upto = 0;
        pthread_mutex_unlock(&pending->lock);
        int r = commit_once(pending, &upto);
        pthread_mutex_lock(&pending->lock);
        note_end(pending, r, upto);
    }
    pthread_mutex_unlock(&pending->lock);
    return NULL;
}

/* -------------------------------------------------------------- start, stop -- */

static void init_locks(struct pending *pending)
{
    pthread_mutex_init(&pending->order, NULL);
    pthread_mutex_init(&pending->alone, NULL);
    pthread_mutex_init(&pending->lock, NULL);
    /* By default readers that overlap keep a writer waiting for ever. */
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&pending->layers, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&pending->work, &clock);
    pthread_cond_init(&pending->ended, &clock);
    pthread_condattr_destroy(&clock);
}

static void destroy(struct pending *pending)
{
    if (pending->active != NULL)
        layer_clear(pending->active);
    free(pending->active);
    pthread_mutex_destroy(&pending->order);
    pthread_mutex_destroy(&pending->alone);
    pthread_mutex_destroy(&pending->lock);
    pthread_rwlock_destroy(&pending->layers);
    pthread_cond_destroy(&pending->work);
    pthread_cond_destroy(&pending->ended);
    free(pending);
}

int pending_start(struct store *store, const struct pending_limits *limits, struct pending **out)
{
    struct pending *pending = calloc(1, sizeof(*pending));
    if (pending == NULL)
        return -ENOMEM;
    pending->store = store;
    pending->limits = *limits;
    init_locks(pending);
    pending->active = calloc(1, sizeof(*pending->active));
    int rc = pending->active == NULL
                 ? ENOMEM
                 : pthread_create(&pending->thread, NULL, keep_committing, pending);
    if (rc != 0) {
        destroy(pending);
        return -rc;
    }
    *out = pending;
    return 0;
}

void pending_stop(struct pending *pending)
{
    if (pending == NULL)
        return;
    pthread_mutex_lock(&pending->lock);
    pending->stop = true;
    pthread_cond_signal(&pending->work);
    pthread_mutex_unlock(&pending->lock);
    pthread_join(pending->thread, NULL);
    destroy(pending);
}

void pending_stat(struct pending *pending, struct pending_stat *stat)
{
    with_mutex(&pending->lock);
    *stat = (struct pending_stat){pending->changes, pending->committed,
                                  atomic_load(&pending->active_bytes)};
}
