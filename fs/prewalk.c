/* SPDX-License-Identifier: BSD-2-Clause */
#include "prewalk.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "companion.h"
#include "mount.h"
#include "store/util.h"
#include "where.h"

/* Names that somebody asks for in one directory before we list it. */
#define LOOKUPS_FEW 3
/* Directories that somebody goes through before we walk the tree. */
#define DIRECTORIES_FEW 4
/* Directories that are watched for that; a slot each. */
#define WATCHED 256

/* Kernel memory per name and file, bytes, about (measured: 1.15 KB of slab), and how much of what
 * is available the names of a tree may take. */
#define NAME_BYTES 2048
#define MEMORY_PART 8
/* A store of larger records than this, bytes, in the mean, is not read ahead as a whole. */
#define SMALL_RECORD ((uint64_t)64 << 10)

/* A tree is walked again when so many requests for names have come since, as a part of its
 * records: then the kernel has dropped much of it. */
#define AGAIN_PART 16
#define AGAIN_LEAST 64

#define QUEUE_MOST 256

struct prewalk {
    struct mount *mount;
    pthread_t walker, reader;
    bool walker_runs, reader_runs;
    _Atomic uint64_t walked;

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

static void done(struct prewalk *prewalk)
{
    with_mutex(&prewalk->lock);
    if (!prewalk->walking)
        return;
    prewalk->tree = prewalk->walking = false;
    prewalk->directories = 0;
    prewalk->asked = 0;
}

static void *walk(void *arg)
{
    struct prewalk *prewalk = arg;
    char path[PATH_MAX];
    uint64_t directory;
    while ((directory = take(prewalk)) != 0) {
        if (where_path(prewalk->mount->store, directory, path) == 0 &&
            companion_list(prewalk->mount->companion, path, directory == STORE_ROOT_ID) == 0)
            atomic_fetch_add_explicit(&prewalk->walked, 1, memory_order_relaxed);
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

static void close_file(FILE **file)
{
    if (*file != NULL)
        fclose(*file);
}

/* Bytes that programs could get without swapping; 0 if that can't be found out. */
static uint64_t memory_available(void)
{
    cleanup(close_file) FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    uint64_t kib;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            return kib << 10;
    return 0;
}

/* With the lock held. */
static void want_tree(struct prewalk *prewalk)
{
    struct store_stat stat;
    prewalk->asked = 0;
    prewalk->directories = 0;
    if (prewalk->tree || store_stat(prewalk->mount->store, false, &stat) < 0)
        return;
    uint64_t room = memory_available() / MEMORY_PART;
    prewalk->again = stat.records / AGAIN_PART + AGAIN_LEAST;
    if (stat.records * NAME_BYTES > room)
        return;
    prewalk->prefetch = stat.file_bytes <= room && stat.file_bytes <= stat.records * SMALL_RECORD;
    prewalk->tree = true;
    pthread_cond_broadcast(&prewalk->wanted);
}

/* With the lock held: somebody has gone through a directory. */
static void pass_directory(struct prewalk *prewalk)
{
    if (++prewalk->directories >= DIRECTORIES_FEW && prewalk->asked >= prewalk->again)
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
