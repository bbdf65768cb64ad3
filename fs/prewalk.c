/* SPDX-License-Identifier: BSD-2-Clause */
#include "prewalk.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "mount.h"
#include "store/util.h"
#include "where.h"

#define THREADS 3

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
 * directories: then the kernel has dropped much of it. */
#define AGAIN_PART 16
#define AGAIN_LEAST 64

#define LISTING_BYTES ((size_t)64 << 10)
#define QUEUE_MOST ((size_t)1 << 15)

/* A directory to list. */
struct task {
    char *path;  /* owned; NULL: to be found */
    uint64_t id; /* if so */
};

struct prewalk {
    struct mount *mount;
    pthread_t threads[THREADS];
    unsigned running;
    _Atomic pid_t ids[THREADS];
    _Atomic uint64_t listed;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t queued;
    struct task *queue; /* a stack of QUEUE_MOST */
    size_t count;
    unsigned busy; /* threads that are listing */
    bool tree;     /* what is found in them is to be listed, too */
    bool prefetch; /* and data.mdb to be read ahead */
    bool stop;
    struct {
        uint64_t directory;
        unsigned lookups;
    } watched[WATCHED];
    unsigned directories; /* gone through since the last walk */
    uint64_t asked;       /* requests for names since */
    uint64_t again;       /* walk when there are so many */
};

static bool is_ours(struct prewalk *prewalk, pid_t pid)
{
    for (int i = 0; i < THREADS; i++)
        if (atomic_load_explicit(&prewalk->ids[i], memory_order_relaxed) == pid)
            return true;
    return false;
}

/* -------------------------------------------------------------- the threads -- */

/* With the lock held; takes the path over. What does not fit is not walked ahead. */
static void enqueue(struct prewalk *prewalk, struct task task)
{
    if (prewalk->count == QUEUE_MOST) {
        free(task.path);
        return;
    }
    prewalk->queue[prewalk->count++] = task;
    pthread_cond_signal(&prewalk->queued);
}

/* getdents64(2)'s. */
struct dirent64_raw {
    uint64_t id;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* With the lock held. */
static void enqueue_path(struct prewalk *prewalk, const char *directory, const char *name)
{
    struct task task = {0};
    if (asprintf(&task.path, "%s/%s", directory, name) >= 0)
        enqueue(prewalk, task);
}

static void note_directories(struct prewalk *prewalk, const char *path, const char *buffer,
                             size_t size)
{
    with_mutex(&prewalk->lock);
    const struct dirent64_raw *entry;
    for (size_t at = 0; prewalk->tree && at < size; at += entry->length) {
        entry = (const void *)(buffer + at);
        if (entry->type == DT_DIR && strcmp(entry->name, ".") != 0 &&
            strcmp(entry->name, "..") != 0)
            enqueue_path(prewalk, path, entry->name);
    }
}

/* Reading a listing is all that it takes: the kernel gets the entries' attributes with it. */
static void list(struct prewalk *prewalk, const char *path, char *buffer)
{
    cleanup_fd int fd = own_directory(&prewalk->mount->own, path);
    long n = 0;
    while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buffer, LISTING_BYTES)) > 0)
        note_directories(prewalk, path, buffer, (size_t)n);
    atomic_fetch_add_explicit(&prewalk->listed, 1, memory_order_relaxed);
}

static void find_and_list(struct prewalk *prewalk, struct task *task, char *buffer)
{
    char path[PATH_MAX];
    if (task->path != NULL)
        list(prewalk, task->path, buffer);
    else if (where_path(prewalk->mount->store, task->id, path) == 0)
        list(prewalk, path, buffer);
    free(task->path);
}

static bool take(struct prewalk *prewalk, struct task *task, bool *prefetch)
{
    with_mutex(&prewalk->lock);
    while (prewalk->count == 0 && !prewalk->stop)
        pthread_cond_wait(&prewalk->queued, &prewalk->lock);
    if (prewalk->stop)
        return false;
    *task = prewalk->queue[--prewalk->count];
    *prefetch = prewalk->prefetch;
    prewalk->prefetch = false;
    prewalk->busy++;
    return true;
}

static void done(struct prewalk *prewalk)
{
    with_mutex(&prewalk->lock);
    if (--prewalk->busy > 0 || prewalk->count > 0)
        return;
    prewalk->tree = false;
    prewalk->directories = 0;
    prewalk->asked = 0;
}

static void *work(void *arg)
{
    struct prewalk *prewalk = arg;
    _Alignas(struct dirent64_raw) char *buffer = malloc(LISTING_BYTES);
    struct task task;
    bool prefetch;
    {
        with_mutex(&prewalk->lock);
        int i = 0;
        while (atomic_load(&prewalk->ids[i]) != 0)
            i++;
        atomic_store(&prewalk->ids[i], gettid());
    }
    while (buffer != NULL && take(prewalk, &task, &prefetch)) {
        if (prefetch)
            store_prefetch(prewalk->mount->store);
        find_and_list(prewalk, &task, buffer);
        done(prewalk);
    }
    free(buffer);
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
static void walk_tree(struct prewalk *prewalk)
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
    enqueue(prewalk, (struct task){.id = STORE_ROOT_ID});
}

/* With the lock held: somebody has gone through a directory. */
static void pass_directory(struct prewalk *prewalk)
{
    if (++prewalk->directories >= DIRECTORIES_FEW && prewalk->asked >= prewalk->again)
        walk_tree(prewalk);
}

void prewalk_looked_up(struct prewalk *prewalk, pid_t pid, uint64_t directory)
{
    if (is_ours(prewalk, pid))
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
    if (!prewalk->tree)
        enqueue(prewalk, (struct task){.id = directory});
    pass_directory(prewalk);
}

void prewalk_listed(struct prewalk *prewalk, pid_t pid)
{
    if (is_ours(prewalk, pid))
        return;
    with_mutex(&prewalk->lock);
    prewalk->asked++;
    pass_directory(prewalk);
}

uint64_t prewalk_count(struct prewalk *prewalk)
{
    return atomic_load(&prewalk->listed);
}

/* -------------------------------------------------------------------- life -- */

int prewalk_start(struct mount *mount, struct prewalk **out)
{
    struct prewalk *prewalk = calloc(1, sizeof(*prewalk));
    if (prewalk == NULL)
        return -ENOMEM;
    prewalk->mount = mount;
    pthread_mutex_init(&prewalk->lock, NULL);
    pthread_cond_init(&prewalk->queued, NULL);
    prewalk->queue = reallocarray(NULL, QUEUE_MOST, sizeof(*prewalk->queue));
    int r = prewalk->queue == NULL ? -ENOMEM : 0;
    while (r == 0 && prewalk->running < THREADS) {
        r = -pthread_create(&prewalk->threads[prewalk->running], NULL, work, prewalk);
        prewalk->running += r == 0;
    }
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
        prewalk->tree = false;
        pthread_cond_broadcast(&prewalk->queued);
    }
    while (prewalk->running > 0)
        pthread_join(prewalk->threads[--prewalk->running], NULL);
}

void prewalk_free(struct prewalk *prewalk)
{
    if (prewalk == NULL)
        return;
    pthread_cond_destroy(&prewalk->queued);
    pthread_mutex_destroy(&prewalk->lock);
    while (prewalk->count > 0)
        free(prewalk->queue[--prewalk->count].path);
    free(prewalk->queue);
    free(prewalk);
}
