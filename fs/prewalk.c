/* SPDX-License-Identifier: BSD-2-Clause */
#include "prewalk.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <limits.h>

#include "companion.h"
#include "mount.h"
#include "room.h"
#include "store/util.h"
#include "where.h"

/* Names that somebody asks for in one directory before we list it. */
#define LOOKUPS_FEW 3
/* Directories that somebody goes through before we walk the tree. */
#define DIRECTORIES_FEW 4
/* Directories that are watched for that; a slot each. */
#define WATCHED 256

/* A tree is walked again when so many requests for names have come since, as a part of its
 * records: then the kernel has dropped much of it. */
#define AGAIN_PART 16
#define AGAIN_LEAST 64

#define QUEUE_MOST 256

/* A directory in which a name has changed is left alone for this time, milliseconds; a slot for
 * each of the last ones. */
#define QUIET_MS 1000
#define CHANGED_SLOTS 1024

struct prewalk {
    struct mount *mount;
    pthread_t walker, reader;
    bool walker_runs, reader_runs;
    _Atomic uint64_t walked;
    struct {
        _Atomic uint64_t directory;
        _Atomic int64_t when; /* of coarse_ms() */
    } changed[CHANGED_SLOTS];

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t wanted;
    uint64_t queue[QUEUE_MOST]; /* directories, a stack */
    size_t count;
    bool tree;     /* the whole tree is to be walked, or is being walked */
    bool walking;  /* it is */
    bool prefetch; /* data.mdb is to be read ahead */
    bool stop;
    struct {
        uint64_t directory;
        unsigned lookups;
    } watched[WATCHED];
    unsigned directories; /* gone through since the last walk */
    uint64_t asked;       /* requests for names since */
    uint64_t again;       /* walk when there are so many */
};

/* -------------------------------------------------------------- the threads -- */

/* What to list: the root stands for the whole tree. 0: time to stop. */
static uint64_t take(struct prewalk *prewalk)
{
    with_mutex(&prewalk->lock);
    while (prewalk->count == 0 && !prewalk->tree && !prewalk->stop)
        pthread_cond_wait(&prewalk->wanted, &prewalk->lock);
    if (prewalk->stop)
        return 0;
    prewalk->walking = prewalk->tree;
    if (prewalk->walking)
        prewalk->count = 0;
    return prewalk->walking ? STORE_ROOT_ID : prewalk->queue[--prewalk->count];
}

/* The tree has been walked. */
static void done(struct prewalk *prewalk)
{
    struct store_stat stat = {0};
    (void)store_stat(prewalk->mount->store, false, &stat);
    with_mutex(&prewalk->lock);
    prewalk->tree = prewalk->walking = false;
    prewalk->directories = 0;
    prewalk->asked = 0;
    prewalk->again = stat.records / AGAIN_PART + AGAIN_LEAST;
}

static void want_prefetch(struct prewalk *prewalk)
{
    with_mutex(&prewalk->lock);
    prewalk->prefetch = true;
    pthread_cond_broadcast(&prewalk->wanted);
}

static bool changed_since(struct prewalk *prewalk, uint64_t directory, int64_t since)
{
    size_t slot = directory % CHANGED_SLOTS;
    return atomic_load(&prewalk->changed[slot].when) >= since &&
           atomic_load(&prewalk->changed[slot].directory) == directory;
}

static int list(struct prewalk *prewalk, uint64_t directory)
{
    struct mount *mount = prewalk->mount;
    bool tree = directory == STORE_ROOT_ID;
    char path[PATH_MAX];
    if (!tree && changed_since(prewalk, directory, coarse_ms() - QUIET_MS))
        return -EAGAIN;
    if (tree && !room_for_names(mount))
        return -ENOSPC;
    if (tree && room_for_all(mount))
        want_prefetch(prewalk);
    int r = where_path(mount->store, directory, path);
    return r < 0 ? r : companion_list(mount->companion, path, tree);
}

static void *walk(void *arg)
{
    struct prewalk *prewalk = arg;
    uint64_t directory;
    while ((directory = take(prewalk)) != 0) {
        if (list(prewalk, directory) == 0)
            atomic_fetch_add_explicit(&prewalk->walked, 1, memory_order_relaxed);
        if (directory == STORE_ROOT_ID)
            done(prewalk);
    }
    return NULL;
}

static bool must_prefetch(struct prewalk *prewalk)
{
    with_mutex(&prewalk->lock);
    while (!prewalk->prefetch && !prewalk->stop)
        pthread_cond_wait(&prewalk->wanted, &prewalk->lock);
    prewalk->prefetch = false;
    return !prewalk->stop;
}

static void *prefetch(void *arg)
{
    struct prewalk *prewalk = arg;
    while (must_prefetch(prewalk))
        store_prefetch(prewalk->mount->store);
    return NULL;
}

/* ------------------------------------------------------------ what is wanted -- */

/* With the lock held. */
static void want_tree(struct prewalk *prewalk)
{
    prewalk->asked = 0;
    prewalk->directories = 0;
    prewalk->tree = true;
    pthread_cond_broadcast(&prewalk->wanted);
}

/* With the lock held: somebody has gone through a directory. */
static void pass_directory(struct prewalk *prewalk)
{
    if (++prewalk->directories >= DIRECTORIES_FEW && prewalk->asked >= prewalk->again &&
        !prewalk->tree)
        want_tree(prewalk);
}

void prewalk_looked_up(struct prewalk *prewalk, pid_t pid, uint64_t directory)
{
    if (companion_walks(prewalk->mount->companion, pid))
        return;
    with_mutex(&prewalk->lock);
    prewalk->asked++;
    unsigned *lookups = &prewalk->watched[directory % WATCHED].lookups;
    if (prewalk->watched[directory % WATCHED].directory != directory) {
        prewalk->watched[directory % WATCHED].directory = directory;
        *lookups = 0;
    }
    if (++*lookups != LOOKUPS_FEW)
        return;
    *lookups = 0;
    if (!prewalk->tree && prewalk->count < QUEUE_MOST) {
        prewalk->queue[prewalk->count++] = directory;
        pthread_cond_broadcast(&prewalk->wanted);
    }
    pass_directory(prewalk);
}

void prewalk_changed(struct prewalk *prewalk, uint64_t directory)
{
    size_t slot = directory % CHANGED_SLOTS;
    atomic_store_explicit(&prewalk->changed[slot].directory, directory, memory_order_relaxed);
    atomic_store_explicit(&prewalk->changed[slot].when, coarse_ms(), memory_order_relaxed);
}

void prewalk_listed(struct prewalk *prewalk, pid_t pid)
{
    if (companion_walks(prewalk->mount->companion, pid))
        return;
    with_mutex(&prewalk->lock);
    prewalk->asked++;
    pass_directory(prewalk);
}

uint64_t prewalk_count(struct prewalk *prewalk)
{
    return atomic_load(&prewalk->walked);
}

/* -------------------------------------------------------------------- life -- */

int prewalk_start(struct mount *mount, struct prewalk **out)
{
    struct prewalk *prewalk = calloc(1, sizeof(*prewalk));
    if (prewalk == NULL)
        return -ENOMEM;
    prewalk->mount = mount;
    pthread_mutex_init(&prewalk->lock, NULL);
    pthread_cond_init(&prewalk->wanted, NULL);
    int r = -pthread_create(&prewalk->walker, NULL, walk, prewalk);
    prewalk->walker_runs = r == 0;
    if (r == 0)
        r = -pthread_create(&prewalk->reader, NULL, prefetch, prewalk);
    prewalk->reader_runs = r == 0;
    if (r < 0) {
        prewalk_stop(prewalk);
        prewalk_free(prewalk);
        return r;
    }
    *out = prewalk;
    return 0;
}

void prewalk_stop(struct prewalk *prewalk)
{
    if (prewalk == NULL)
        return;
    {
        with_mutex(&prewalk->lock);
        prewalk->stop = true;
        pthread_cond_broadcast(&prewalk->wanted);
    }
    companion_end_list(prewalk->mount->companion);
    if (prewalk->walker_runs)
        pthread_join(prewalk->walker, NULL);
    if (prewalk->reader_runs)
        pthread_join(prewalk->reader, NULL);
    prewalk->walker_runs = prewalk->reader_runs = false;
}

void prewalk_free(struct prewalk *prewalk)
{
    if (prewalk == NULL)
        return;
    pthread_cond_destroy(&prewalk->wanted);
    pthread_mutex_destroy(&prewalk->lock);
    free(prewalk);
}
