/* SPDX-License-Identifier: BSD-2-Clause */
#include "push.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "mount.h"
#include "store/util.h"

#define THREADS 2

/* Ids that are looked at ahead of a reader: at first, and when it has gone far. */
#define WINDOW_FIRST 16
#define WINDOW_MOST 1024
/* From here on it is taken for granted that other files will be read, too. */
#define WINDOW_BUSY 64
#define BUSY_MS 2000

/* Readers that are told apart, by where they are. */
#define STREAMS 16

/* What was pushed, not to do it twice: a slot each for the last ids. 512 KiB. */
#define PUSHED_SLOTS ((size_t)1 << 16)

#define JOB_IDS 64
#define JOBS_MOST 1024 /* 0.5 MiB */

struct job {
    uint64_t ids[JOB_IDS];
    size_t count;
};

/* First in, first out. */
struct queue {
    struct job *jobs; /* a ring */
    size_t first, count;
};

/* Ahead of somebody who reads; of somebody who lists. */
enum urgency { SOON, LATER, URGENCIES };

struct stream {
    uint64_t end; /* ids up to here were pushed */
    uint64_t window;
    uint64_t used; /* `clock` when it was last of use */
};

struct push {
    struct mount *mount;
    pthread_t threads[THREADS];
    unsigned running;
    _Atomic uint64_t pushed; /* files */
    _Atomic int64_t busy_until;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t queued;
    struct queue queues[URGENCIES];
    bool stop;
    struct stream streams[STREAMS];
    uint64_t clock;
    uint64_t done[PUSHED_SLOTS];
};

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* -------------------------------------------------------------- the queue -- */

static uint64_t *done_slot(struct push *push, uint64_t id)
{
    return &push->done[id % PUSHED_SLOTS];
}

/* A job to add ids to, with the lock held: NULL if there is too much to do already. */
static struct job *new_job(struct queue *queue)
{
    if (queue->count == JOBS_MOST)
        return NULL;
    struct job *job = &queue->jobs[(queue->first + queue->count++) % JOBS_MOST];
    job->count = 0;
    return job;
}

/* Queue a file if the kernel holds it and doesn't have its content yet. */
static void enqueue(struct push *push, enum urgency urgency, uint64_t id, struct job **job)
{
    uint64_t *done = done_slot(push, id);
    if (*done == id || !store_leased(push->mount->store, id))
        return;
    if (*job == NULL || (*job)->count == JOB_IDS) {
        *job = new_job(&push->queues[urgency]);
        if (*job == NULL)
            return;
    }
    *done = id;
    (*job)->ids[(*job)->count++] = id;
}

static bool take(struct push *push, struct job *job)
{
    with_mutex(&push->lock);
    while (push->queues[SOON].count + push->queues[LATER].count == 0 && !push->stop)
        pthread_cond_wait(&push->queued, &push->lock);
    if (push->stop)
        return false;
    struct queue *queue = &push->queues[push->queues[SOON].count > 0 ? SOON : LATER];
    *job = queue->jobs[queue->first];
    queue->first = (queue->first + 1) % JOBS_MOST;
    queue->count--;
    return true;
}

/* --------------------------------------------------------------- the work -- */

static bool push_one(void *arg, uint64_t id, const void *bytes, size_t size)
{
    struct push *push = arg;
    struct fuse_bufvec content = FUSE_BUFVEC_INIT(size);
    content.buf[0].mem = (void *)bytes;
    /* It may wait for a READ of the same page that is under way, so not in a thread that serves.
     * -ENOENT: forgotten meanwhile. */
    if (fuse_lowlevel_notify_store(push->mount->session, id, 0, &content, 0) == 0)
        atomic_fetch_add_explicit(&push->pushed, 1, memory_order_relaxed);
    return true;
}

static void *work(void *arg)
{
    struct push *push = arg;
    struct job job;
    while (take(push, &job))
        (void)store_contents(push->mount->store, job.ids, job.count, PUSH_MOST, push_one, push);
    return NULL;
}

/* -------------------------------------------------------------- what is next -- */

/* The stream that has come to this id, or else the one that was of no use for longest. */
static struct stream *stream_of(struct push *push, uint64_t id)
{
    struct stream *oldest = &push->streams[0];
    for (size_t i = 0; i < STREAMS; i++) {
        struct stream *stream = &push->streams[i];
        if (id < stream->end + stream->window && id + 2 * stream->window >= stream->end)
            return stream;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    *oldest = (struct stream){.end = id + 1};
    return oldest;
}

/* The kernel asks for what it was given: it had no more room for it. It may have dropped what
 * follows, too. */
static void forget_pushed(struct push *push, uint64_t id, uint64_t count)
{
    for (uint64_t i = id; i < id + count; i++) {
        uint64_t *done = done_slot(push, i);
        if (*done == i)
            *done = 0;
    }
}

void push_read(struct push *push, uint64_t id)
{
    with_mutex(&push->lock);
    struct stream *stream = stream_of(push, id);
    bool known = *done_slot(push, id) == id;
    stream->window = stream->window == 0 ? WINDOW_FIRST : stream->window * 2;
    if (stream->window > WINDOW_MOST)
        stream->window = WINDOW_MOST;
    stream->used = ++push->clock;
    if (known)
        forget_pushed(push, id, stream->window);
    uint64_t from = known || id >= stream->end ? id + 1 : stream->end;
    struct job *job = NULL;
    *done_slot(push, id) = id; /* the kernel gets it by its own READ */
    for (stream->end = from; stream->end < id + 1 + stream->window; stream->end++)
        enqueue(push, SOON, stream->end, &job);
    if (stream->window >= WINDOW_BUSY)
        atomic_store(&push->busy_until, now_ms() + BUSY_MS);
    if (job != NULL)
        pthread_cond_broadcast(&push->queued);
}

void push_listed(struct push *push, const uint64_t *ids, size_t count)
{
    if (!push_is_busy(push))
        return;
    with_mutex(&push->lock);
    struct job *job = NULL;
    for (size_t i = 0; i < count; i++)
        enqueue(push, LATER, ids[i], &job);
    if (job != NULL)
        pthread_cond_broadcast(&push->queued);
}

bool push_is_busy(struct push *push)
{
    return now_ms() < atomic_load(&push->busy_until);
}

uint64_t push_count(struct push *push)
{
    return atomic_load(&push->pushed);
}

/* -------------------------------------------------------------------- life -- */

int push_start(struct mount *mount, struct push **out)
{
    struct push *push = calloc(1, sizeof(*push));
    if (push == NULL)
        return -ENOMEM;
    push->mount = mount;
    pthread_mutex_init(&push->lock, NULL);
    pthread_cond_init(&push->queued, NULL);
    int r = 0;
    for (int i = 0; i < URGENCIES; i++) {
        push->queues[i].jobs = calloc(JOBS_MOST, sizeof(struct job));
        if (push->queues[i].jobs == NULL)
            r = -ENOMEM;
    }
    while (r == 0 && push->running < THREADS) {
        r = -pthread_create(&push->threads[push->running], NULL, work, push);
        push->running += r == 0;
    }
    if (r < 0) {
        push_stop(push);
        push_free(push);
        return r;
    }
    *out = push;
    return 0;
}

void push_stop(struct push *push)
{
    if (push == NULL)
        return;
    {
        with_mutex(&push->lock);
        push->stop = true;
        pthread_cond_broadcast(&push->queued);
    }
    while (push->running > 0)
        pthread_join(push->threads[--push->running], NULL);
}

void push_free(struct push *push)
{
    if (push == NULL)
        return;
    pthread_cond_destroy(&push->queued);
    pthread_mutex_destroy(&push->lock);
    for (int i = 0; i < URGENCIES; i++)
        free(push->queues[i].jobs);
    free(push);
}
