/* SPDX-License-Identifier: BSD-2-Clause */
#include "keeper.h"

#include "reap.h"
#include "seal.h"

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
    bool stop;
};

static int append(struct ids *ids, uint64_t id)
{
    if (ids->count == ids->room) {
        size_t room = ids->room == 0 ? 64 : ids->room * 2;
        uint64_t *larger = reallocarray(ids->list, room, sizeof(*larger));
        if (larger == NULL)
            return -ENOMEM;
        ids->list = larger;
        ids->room = room;
    }
    ids->list[ids->count++] = id;
    return 0;
}

/* Take both queues; false when there is nothing left to do and it is time to stop. */
static bool take(struct keeper *keeper, struct ids *seals, struct ids *reaps)
{
    with_mutex(&keeper->lock);
    while (keeper->seals.count == 0 && keeper->reaps.count == 0) {
        if (keeper->stop)
            return false;
        pthread_cond_wait(&keeper->queued, &keeper->lock);
    }
    *seals = keeper->seals;
    *reaps = keeper->reaps;
    keeper->seals = keeper->reaps = (struct ids){0};
    return true;
}

static void *keep(void *arg)
{
    struct keeper *keeper = arg;
    struct ids seals, reaps;
    while (take(keeper, &seals, &reaps)) {
        for (size_t i = 0; i < seals.count; i++)
            seal_finish(keeper->store, seals.list[i]);
        int r = reap(keeper->store, reaps.list, reaps.count);
        if (r < 0)
            store_warn(keeper->store, "cannot remove unused records now, a later start will: %s",
                       strerror(-r));
        free(seals.list);
        free(reaps.list);
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
        seal_finish(keeper->store, id); /* no memory to put it off */
}

void keeper_reap(struct keeper *keeper, uint64_t id)
{
    /* Without memory it stays an orphan, and store_recover() finds it. */
    (void)enqueue(keeper, &keeper->reaps, id);
}
