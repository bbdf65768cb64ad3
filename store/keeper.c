/* SPDX-License-Identifier: BSD-2-Clause */
#include "keeper.h"

#include "reap.h"
#include "seal.h"
#include "sweep.h"

/* Ids that wait, at most: a storm of removals must not fill the memory. */
#define QUEUE_MOST ((size_t)1 << 14)

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
    bool missed; /* more orphans than the queue has room for */
    bool sweep;  /* trees have left staging */
    bool stop;
};

/* What is done in one go. */
struct work {
    struct ids seals, reaps;
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

/* Take both queues; false when there is nothing left to do and it is time to stop. */
static bool take(struct keeper *keeper, struct work *work)
{
    with_mutex(&keeper->lock);
    while (keeper->seals.count == 0 && keeper->reaps.count == 0 && !keeper->missed) {
        if (keeper->stop)
            return false;
        if (keeper->sweep)
            break;
        pthread_cond_wait(&keeper->queued, &keeper->lock);
    }
    *work = (struct work){keeper->seals, keeper->reaps, keeper->missed, keeper->sweep};
    keeper->seals = keeper->reaps = (struct ids){0};
    keeper->missed = keeper->sweep = false;
    return true;
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
        int r = reap_work(keeper, &work);
        if (r < 0)
            store_warn(keeper->store, "cannot remove unused records now, a later start will: %s",
                       strerror(-r));
        if (work.sweep && sweep_some(keeper->store))
            keeper_sweep(keeper);
        free(work.seals.list);
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
    pthread_cond_init(&keeper->queued, NULL);
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
