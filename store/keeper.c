/* SPDX-License-Identifier: BSD-2-Clause */
#include "keeper.h"

#include "reap.h"
#include "seal.h"
#include "sweep.h"

/* Ids that wait, at most: a storm of removals must not fill the memory. */
#define QUEUE_MOST ((size_t)1 << 14)

/*
 * Pauses between attempts to seal what somebody else has open, milliseconds. A file that the kernel
 * has just told us is closed may stay open for some microseconds more; a mapping for hours. At the
 * end, only the former is waited for.
 */
#define PAUSE_LEAST 1
#define PAUSE_AT_END 64
#define PAUSE_MOST 1000

struct ids {
    uint64_t *list;
    size_t count, room;
};

struct keeper {
    struct store *store;
    pthread_t thread;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t queued;
    struct ids seals, reaps;
    struct ids later; /* to be sealed, at `due` of monotonic_ms() */
    int64_t due;
    unsigned pause; /* milliseconds, before that */
    bool again;     /* the thread tries these */
    bool missed;    /* more orphans than the queue has room for */
    bool sweep;     /* trees have left staging */
    bool stop;
};

/* What is done in one go. */
struct work {
    struct ids seals, reaps, later;
    bool missed;
    bool sweep;
};

static int append(struct ids *ids, uint64_t id)
{
    int r = ids->count == QUEUE_MOST
                ? -ENOMEM
                : make_room(&ids->list, &ids->room, ids->count, sizeof(*ids->list));
    if (r == 0)
        ids->list[ids->count++] = id;
    return r;
}

/* With the lock held. */
static void wait_for_work(struct keeper *keeper)
{
    if (keeper->later.count == 0) {
        pthread_cond_wait(&keeper->queued, &keeper->lock);
        return;
    }
    struct timespec until = {keeper->due / 1000, keeper->due % 1000 * 1000000};
    pthread_cond_timedwait(&keeper->queued, &keeper->lock, &until);
}

/* Take the queues; false when there is nothing left to do and it is time to stop. */
static bool take(struct keeper *keeper, struct work *work)
{
    with_mutex(&keeper->lock);
    bool due;
    while (!(due = keeper->later.count > 0 && monotonic_ms() >= keeper->due) &&
           keeper->seals.count == 0 && keeper->reaps.count == 0 && !keeper->missed) {
        if (keeper->stop && (keeper->later.count == 0 || keeper->pause > PAUSE_AT_END))
            return false;
        if (keeper->sweep && !keeper->stop)
            break;
        wait_for_work(keeper);
    }
    *work = (struct work){.seals = keeper->seals,
                          .reaps = keeper->reaps,
                          .missed = keeper->missed,
                          .sweep = keeper->sweep};
    keeper->seals = keeper->reaps = (struct ids){0};
    keeper->missed = keeper->sweep = false;
    if (due) {
        work->later = keeper->later;
        keeper->later = (struct ids){0};
        keeper->again = true;
    }
    return true;
}

/* The next time for those that are left comes after twice the pause. */
static void try_again(struct keeper *keeper, const struct ids *ids)
{
    for (size_t i = 0; i < ids->count; i++)
        seal_again(keeper->store, ids->list[i]);
    with_mutex(&keeper->lock);
    if (!keeper->again)
        return;
    keeper->again = false;
    keeper->pause = keeper->pause * 2 < PAUSE_MOST ? keeper->pause * 2 : PAUSE_MOST;
    keeper->due = monotonic_ms() + keeper->pause;
}

static int reap_work(struct keeper *keeper, const struct work *work)
{
    int r = reap(keeper->store, work->reaps.list, work->reaps.count);
    return r == 0 && work->missed ? reap_sealed(keeper->store) : r;
}

static void *keep(void *arg)
{
    struct keeper *keeper = arg;
    struct work work;
    while (take(keeper, &work)) {
        for (size_t i = 0; i < work.seals.count; i++)
            seal_finish(keeper->store, work.seals.list[i]);
        try_again(keeper, &work.later);
        int r = reap_work(keeper, &work);
        if (r < 0)
            store_warn(keeper->store, "cannot remove unused records now, a later start will: %s",
                       strerror(-r));
        if (work.sweep && sweep_some(keeper->store))
            keeper_sweep(keeper);
        free(work.seals.list);
        free(work.later.list);
        free(work.reaps.list);
    }
    return NULL;
}

int keeper_start(struct store *store, struct keeper **out)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    if (keeper == NULL)
        return -ENOMEM;
    keeper->store = store;
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->queued, &clock);
    pthread_condattr_destroy(&clock);
    int rc = pthread_create(&keeper->thread, NULL, keep, keeper);
    if (rc != 0) {
        free(keeper);
        return -rc;
    }
    *out = keeper;
    return 0;
}

void keeper_stop(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stop = true;
    keeper->pause = PAUSE_LEAST;
    keeper->due = monotonic_ms();
    pthread_cond_signal(&keeper->queued);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
}

void keeper_free(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    free(keeper->seals.list);
    free(keeper->reaps.list);
    free(keeper->later.list);
    pthread_cond_destroy(&keeper->queued);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

static int enqueue(struct keeper *keeper, struct ids *ids, uint64_t id)
{
    with_mutex(&keeper->lock);
    int r = append(ids, id);
    pthread_cond_signal(&keeper->queued);
    return r;
}

void keeper_seal(struct keeper *keeper, uint64_t id)
{
    if (enqueue(keeper, &keeper->seals, id) < 0)
        seal_finish(keeper->store, id); /* no room to put it off */
}

void keeper_seal_later(struct keeper *keeper, uint64_t id)
{
    with_mutex(&keeper->lock);
    for (size_t i = 0; i < keeper->later.count; i++)
        if (keeper->later.list[i] == id)
            return;
    if (append(&keeper->later, id) < 0 || keeper->again)
        return;
    keeper->pause = PAUSE_LEAST;
    keeper->due = monotonic_ms() + keeper->pause;
    pthread_cond_signal(&keeper->queued);
}

void keeper_reap(struct keeper *keeper, uint64_t id)
{
    if (keeper == NULL)
        return;
    if (enqueue(keeper, &keeper->reaps, id) == 0)
        return;
    with_mutex(&keeper->lock);
    keeper->missed = true; /* it is in the table of orphans */
    pthread_cond_signal(&keeper->queued);
}

void keeper_sweep(struct keeper *keeper)
{
    with_mutex(&keeper->lock);
    keeper->sweep = true;
    pthread_cond_signal(&keeper->queued);
}
