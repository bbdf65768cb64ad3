/* SPDX-License-Identifier: BSD-2-Clause */
#include "refresh.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "companion.h"
#include "mount.h"
#include "store/util.h"
#include "where.h"

/* Files that are remembered. What doesn't fit, its next reader pays for. 128 KiB. */
#define FILES_MOST ((size_t)1 << 14)

/* We wait until nobody has read for so long: who reads, reads on, and needs the machine. But no
 * longer than that. Milliseconds. */
#define CALM_MS 30
#define WAIT_MOST_MS 2000

/* Files whose directory is remembered: a slot for each of the last ids. 256 KiB. */
#define SEEN_SLOTS ((size_t)1 << 14)

struct seen {
    _Atomic uint64_t id, directory;
};

struct refresh {
    struct mount *mount;
    pthread_t thread;
    bool running;
    struct seen *seen;

    /* The thread's own: the directory of the last file. */
    uint64_t directory; /* 0: none */
    char path[PATH_MAX];

    _Atomic int64_t last; /* READ: milliseconds of the monotonic clock */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t queued;
    uint64_t ids[FILES_MOST]; /* a slot for each id; 0 = free */
    size_t count;
    bool stop;
};

void refresh_seen(struct refresh *refresh, uint64_t directory, uint64_t id)
{
    /* Two that meet may mix their halves: then the name isn't found, that's all. */
    struct seen *seen = &refresh->seen[id % SEEN_SLOTS];
    atomic_store_explicit(&seen->id, id, memory_order_relaxed);
    atomic_store_explicit(&seen->directory, directory, memory_order_relaxed);
}

void refresh_read(struct refresh *refresh, uint64_t id)
{
    atomic_store_explicit(&refresh->last, coarse_ms(), memory_order_relaxed);
    with_mutex(&refresh->lock);
    uint64_t *slot = &refresh->ids[id % FILES_MOST];
    if (*slot != 0)
        return;
    *slot = id;
    if (refresh->count++ == 0)
        pthread_cond_signal(&refresh->queued);
}

/* With the lock held. */
static void pause_for(struct refresh *refresh, int64_t milliseconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += milliseconds * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!refresh->stop && pthread_cond_timedwait(&refresh->queued, &refresh->lock, &until) == 0)
        ;
}

/* Take all, when it is calm. 0: time to stop. */
static size_t take(struct refresh *refresh, uint64_t *ids)
{
    with_mutex(&refresh->lock);
    while (refresh->count == 0 && !refresh->stop)
        pthread_cond_wait(&refresh->queued, &refresh->lock);
    int64_t end = coarse_ms() + WAIT_MOST_MS, wait;
    while (!refresh->stop && (wait = atomic_load(&refresh->last) + CALM_MS - coarse_ms()) > 0 &&
           coarse_ms() < end)
        pause_for(refresh, wait);
    size_t n = 0;
    for (size_t i = 0; i < FILES_MOST && n < refresh->count; i++) {
        if (refresh->ids[i] != 0)
            ids[n++] = refresh->ids[i];
        refresh->ids[i] = 0;
    }
    refresh->count = 0;
    return refresh->stop ? 0 : n;
}

/* The path of the directory, unless it is that of the last file. */
static int find_directory(struct refresh *refresh, uint64_t directory)
{
    if (refresh->directory == directory)
        return 0;
    refresh->directory = 0;
    int r = where_path(refresh->mount->store, directory, refresh->path);
    if (r == 0)
        refresh->directory = directory;
    return r;
}

static void ask(struct refresh *refresh, uint64_t id)
{
    struct companion *companion = refresh->mount->companion;
    const struct seen *seen = &refresh->seen[id % SEEN_SLOTS];
    uint64_t directory = atomic_load_explicit(&seen->directory, memory_order_relaxed);
    char name[STORE_NAME_MAX + 1];
    cleanup_free char *path = NULL;
    if (id == STORE_ROOT_ID)
        (void)companion_stat(companion, ".");
    else if (atomic_load_explicit(&seen->id, memory_order_relaxed) == id &&
             where_name(refresh->mount->store, directory, id, name) == 0 &&
             find_directory(refresh, directory) == 0 &&
             asprintf(&path, "%s/%s", refresh->path, name) >= 0)
        (void)companion_stat(companion, path);
}

static void *work(void *arg)
{
    struct refresh *refresh = arg;
    cleanup_free uint64_t *ids = reallocarray(NULL, FILES_MOST, sizeof(*ids));
    size_t count;
    while (ids != NULL && (count = take(refresh, ids)) > 0) {
        refresh->directory = 0; /* it may have been renamed */
        for (size_t i = 0; i < count; i++)
            ask(refresh, ids[i]);
    }
    return NULL;
}

int refresh_start(struct mount *mount, struct refresh **out)
{
    struct refresh *refresh = calloc(1, sizeof(*refresh));
    if (refresh == NULL)
        return -ENOMEM;
    refresh->mount = mount;
    pthread_mutex_init(&refresh->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&refresh->queued, &clock);
    pthread_condattr_destroy(&clock);
    refresh->seen = calloc(SEEN_SLOTS, sizeof(*refresh->seen));
    int r =
        refresh->seen == NULL ? -ENOMEM : -pthread_create(&refresh->thread, NULL, work, refresh);
    refresh->running = r == 0;
    if (r < 0)
        refresh_free(refresh);
    else
        *out = refresh;
    return r;
}

void refresh_stop(struct refresh *refresh)
{
    if (refresh == NULL)
        return;
    {
        with_mutex(&refresh->lock);
        refresh->stop = true;
        pthread_cond_signal(&refresh->queued);
    }
    if (refresh->running)
        pthread_join(refresh->thread, NULL);
    refresh->running = false;
}

void refresh_free(struct refresh *refresh)
{
    if (refresh == NULL)
        return;
    pthread_cond_destroy(&refresh->queued);
    pthread_mutex_destroy(&refresh->lock);
    free(refresh->seen);
    free(refresh);
}
