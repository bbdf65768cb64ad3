/* SPDX-License-Identifier: BSD-2-Clause */
#include "refresh.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "mount.h"
#include "store/util.h"
#include "where.h"

/* Files that are remembered. What doesn't fit, its next reader pays for. */
#define FILES_MOST 1024

/* A pause between the READs and us: the answer must have arrived, and a large file is asked for
 * once in this time, not after each of its READs. Nanoseconds. */
#define PAUSE_NS 20000000

/* Files whose directory is remembered: a slot for each of the last ids. 1 MiB. */
#define SEEN_SLOTS ((size_t)1 << 16)

struct seen {
    _Atomic uint64_t id, directory;
};

struct refresh {
    struct mount *mount;
    pthread_t thread;
    bool running;
    struct seen *seen;

    /* The thread's own: the directory of the last file. */
    uint64_t directory;
    int fd; /* -1: none */

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
    with_mutex(&refresh->lock);
    uint64_t *slot = &refresh->ids[id % FILES_MOST];
    if (*slot != 0)
        return;
    *slot = id;
    if (refresh->count++ == 0)
        pthread_cond_signal(&refresh->queued);
}

/* Take all. 0: time to stop. */
static size_t take(struct refresh *refresh, uint64_t ids[FILES_MOST])
{
    with_mutex(&refresh->lock);
    while (refresh->count == 0 && !refresh->stop)
        pthread_cond_wait(&refresh->queued, &refresh->lock);
    if (refresh->stop)
        return 0;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PAUSE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!refresh->stop && pthread_cond_timedwait(&refresh->queued, &refresh->lock, &until) == 0)
        ;
    size_t n = 0;
    for (size_t i = 0; i < FILES_MOST; i++) {
        if (refresh->ids[i] != 0)
            ids[n++] = refresh->ids[i];
        refresh->ids[i] = 0;
    }
    refresh->count = 0;
    return refresh->stop ? 0 : n;
}

/* Open the directory, unless it is open from the last time. */
static int open_directory(struct refresh *refresh, uint64_t directory)
{
    char path[PATH_MAX];
    if (refresh->fd >= 0 && refresh->directory == directory)
        return 0;
    cleanup_fd_p(&refresh->fd);
    int r = where_path(refresh->mount->store, directory, path);
    refresh->fd = r < 0 ? r : own_directory(&refresh->mount->own, path);
    refresh->directory = directory;
    return refresh->fd < 0 ? refresh->fd : 0;
}

static void ask_root(struct refresh *refresh)
{
    struct statx attributes;
    cleanup_fd int fd = own_directory(&refresh->mount->own, ".");
    if (fd >= 0)
        (void)statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &attributes);
}

static void ask(struct refresh *refresh, uint64_t id)
{
    if (id == STORE_ROOT_ID) {
        ask_root(refresh);
        return;
    }
    const struct seen *seen = &refresh->seen[id % SEEN_SLOTS];
    uint64_t directory = atomic_load_explicit(&seen->directory, memory_order_relaxed);
    char name[STORE_NAME_MAX + 1];
    struct statx attributes;
    if (atomic_load_explicit(&seen->id, memory_order_relaxed) == id &&
        where_name(refresh->mount->store, directory, id, name) == 0 &&
        open_directory(refresh, directory) == 0)
        (void)statx(refresh->fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &attributes);
}

static void *work(void *arg)
{
    struct refresh *refresh = arg;
    uint64_t ids[FILES_MOST];
    size_t count;
    while ((count = take(refresh, ids)) > 0) {
        for (size_t i = 0; i < count; i++)
            ask(refresh, ids[i]);
        cleanup_fd_p(&refresh->fd); /* an idle mount has nothing open */
        refresh->fd = -1;
    }
    return NULL;
}

int refresh_start(struct mount *mount, struct refresh **out)
{
    struct refresh *refresh = calloc(1, sizeof(*refresh));
    if (refresh == NULL)
        return -ENOMEM;
    refresh->mount = mount;
    refresh->fd = -1;
    pthread_mutex_init(&refresh->lock, NULL);
    pthread_cond_init(&refresh->queued, NULL);
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
