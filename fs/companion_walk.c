/* SPDX-License-Identifier: BSD-2-Clause */
#include "companion_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "store/util.h"

#define LISTING_BYTES ((size_t)64 << 10)
#define QUEUE_MOST ((size_t)1 << 15)

struct walker {
    int root;
    pthread_barrier_t started;

    pthread_mutex_t lock; /* guards the rest */
    pid_t *ids;           /* the caller's, while they start */
    unsigned threads;
    pthread_cond_t queued, finished;
    char *queue[QUEUE_MOST]; /* paths of directories, a stack */
    size_t count;
    unsigned busy; /* threads that are listing */
    bool tree;     /* what is found in them is to be listed, too */
};

/* With the lock held; takes the path over. What does not fit is left out. */
static void enqueue(struct walker *walker, char *path)
{
    if (path == NULL || walker->count == QUEUE_MOST) {
        free(path);
        return;
    }
    walker->queue[walker->count++] = path;
    pthread_cond_signal(&walker->queued);
}

/* getdents64(2)'s. */
struct entry {
    uint64_t id;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

static char *join(const char *directory, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

static void note_directories(struct walker *walker, const char *path, const char *buffer,
                             size_t size)
{
    const struct entry *entry;
    with_mutex(&walker->lock);
    for (size_t at = 0; walker->tree && at < size; at += entry->length) {
        entry = (const void *)(buffer + at);
        if (entry->type == DT_DIR && strcmp(entry->name, ".") != 0 &&
            strcmp(entry->name, "..") != 0)
            enqueue(walker, join(path, entry->name));
    }
}

static void list(struct walker *walker, const char *path, char *buffer)
{
    cleanup_fd int fd = openat(walker->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    long n;
    while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buffer, LISTING_BYTES)) > 0)
        note_directories(walker, path, buffer, (size_t)n);
    /* The listing has made the directory's own access time outdated, and all that stat(2) says. */
    struct stat st;
    if (fd >= 0)
        (void)fstat(fd, &st);
}

static char *take(struct walker *walker)
{
    with_mutex(&walker->lock);
    while (walker->count == 0)
        pthread_cond_wait(&walker->queued, &walker->lock);
    walker->busy++;
    return walker->queue[--walker->count];
}

static void done(struct walker *walker)
{
    with_mutex(&walker->lock);
    if (--walker->busy == 0 && walker->count == 0)
        pthread_cond_signal(&walker->finished);
}

static void *work(void *arg)
{
    struct walker *walker = arg;
    _Alignas(struct entry) char buffer[LISTING_BYTES];
    {
        with_mutex(&walker->lock);
        walker->ids[walker->threads++] = gettid();
    }
    pthread_barrier_wait(&walker->started);
    for (;;) {
        cleanup_free char *path = take(walker);
        list(walker, path, buffer);
        done(walker);
    }
    return NULL;
}

struct walker *walker_new(int root, pid_t ids[WALKER_THREADS])
{
    struct walker *walker = calloc(1, sizeof(*walker));
    if (walker == NULL)
        return NULL;
    walker->root = root;
    walker->ids = ids;
    pthread_barrier_init(&walker->started, NULL, WALKER_THREADS + 1);
    pthread_mutex_init(&walker->lock, NULL);
    pthread_cond_init(&walker->queued, NULL);
    pthread_cond_init(&walker->finished, NULL);
    for (int i = 0; i < WALKER_THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, walker) != 0)
            return NULL; /* then the process ends */
    }
    pthread_barrier_wait(&walker->started);
    return walker;
}

void walk(struct walker *walker, const char *path, bool tree)
{
    with_mutex(&walker->lock);
    walker->tree = tree;
    enqueue(walker, strdup(path));
    while (walker->count > 0 || walker->busy > 0)
        pthread_cond_wait(&walker->finished, &walker->lock);
}
