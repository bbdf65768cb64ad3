/* SPDX-License-Identifier: BSD-2-Clause */
#include "prune.h"

#include <fuse_lowlevel.h>
#include <sys/uio.h>
#include <time.h>

#include "store/store.h"
#include "store/util.h"

/* FUSE_NOTIFY_PRUNE of the kernel's interface 7.45, which older headers lack, and libfuse. */
#define NOTIFY_PRUNE 9
#define IDS_MOST 512

struct message {
    uint32_t length;
    int32_t code;
    uint64_t unique;
    uint32_t count, padding;
    uint64_t spare;
};

/* Of all that is held, this part is asked for in one go, and then time given for the answers. */
#define PART 4
#define PAUSE_NS 20000000

/* False: the kernel knows no such thing, or it is gone. */
static bool ask(struct prune *prune, uint64_t *ids, size_t count)
{
    struct message message = {
        .length = (uint32_t)(sizeof(message) + count * sizeof(*ids)),
        .code = NOTIFY_PRUNE,
        .count = (uint32_t)count,
    };
    struct iovec parts[] = {{&message, sizeof(message)}, {ids, count * sizeof(*ids)}};
    return writev(fuse_session_fd(prune->session), parts, 2) >= 0;
}

static bool prune_some(struct prune *prune, uint64_t *position)
{
    uint64_t ids[IDS_MOST];
    bool asked = true;
    for (size_t left = store_lease_count(prune->store) / PART + 1; left > 0 && asked;) {
        size_t count = store_lease_list(prune->store, position, ids, IDS_MOST);
        if (count == 0)
            break;
        asked = ask(prune, ids, count);
        left = left > count ? left - count : 0;
    }
    return asked;
}

static bool wait_until_wanted(struct prune *prune)
{
    with_mutex(&prune->lock);
    while (!prune->wanted && !prune->stop)
        pthread_cond_wait(&prune->changed, &prune->lock);
    return !prune->stop;
}

static void *work(void *arg)
{
    struct prune *prune = arg;
    uint64_t position = 0;
    while (wait_until_wanted(prune) && prune_some(prune, &position)) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        with_mutex(&prune->lock);
        prune->wanted = false; /* if it was not enough, somebody will say so */
    }
    return NULL;
}

void prune_init(struct prune *prune)
{
    *prune = (struct prune){0};
    pthread_mutex_init(&prune->lock, NULL);
    pthread_cond_init(&prune->changed, NULL);
}

void prune_destroy(struct prune *prune)
{
    pthread_cond_destroy(&prune->changed);
    pthread_mutex_destroy(&prune->lock);
}

int prune_start(struct prune *prune, struct fuse_session *session, struct store *store)
{
    with_mutex(&prune->lock);
    prune->session = session;
    prune->store = store;
    int rc = pthread_create(&prune->thread, NULL, work, prune);
    prune->running = rc == 0;
    return -rc;
}

void prune_stop(struct prune *prune)
{
    {
        with_mutex(&prune->lock);
        if (!prune->running)
            return;
        prune->running = false;
        prune->stop = true;
        pthread_cond_signal(&prune->changed);
    }
    pthread_join(prune->thread, NULL);
}

void prune_want(struct prune *prune)
{
    with_mutex(&prune->lock);
    if (prune->running && !prune->wanted) {
        prune->wanted = true;
        pthread_cond_signal(&prune->changed);
    }
}
