/* SPDX-License-Identifier: BSD-2-Clause */
#include "push.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "mount.h"
#include "room.h"
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

/* What was pushed, not to do it twice: a slot each for the last ids. 256 KiB. */
#define PUSHED_SLOTS ((size_t)1 << 14)

/* A READ of what was sent longer ago than this, milliseconds, tells that the kernel has dropped it.
 * Before, the reader was just faster than we. */
#define EVICTED_MS 50
/* It is still queued. */
#define PENDING INT64_MAX

/* Ids that are looked at for one job when there is nothing better to do. */
#define SWEEP_STEP 1024

#define JOB_IDS 64
#define JOBS_MOST 256 /* 128 KiB */
#define JOBS_FEW 4

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

struct pushed {
    uint64_t id;
    _Atomic int64_t when; /* sent: milliseconds */
};

struct stream {
    uint64_t end; /* ids up to here were pushed */
    uint64_t window;
    uint64_t used; /* `clock` when it was last of use */
};

/* What is done about the rest. */
enum sweep { SWEEP_NOT, SWEEP_WANTED, SWEEP_ON };

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
    unsigned idle; /* threads that wait for something to do */
    enum sweep sweep;
    uint64_t sweep_next, sweep_left; /* ids */
    uint64_t highest;                /* id that the kernel was told of */
    struct stream streams[STREAMS];
    uint64_t clock;
    struct pushed pushed_files[PUSHED_SLOTS];
};

/* -------------------------------------------------------------- the queue -- */

static struct pushed *slot_of(struct push *push, uint64_t id)
{
    return &push->pushed_files[id % PUSHED_SLOTS];
}

/* A job to add ids to, with the lock held: NULL if there is too much to do already. */
static struct job *job_with_room(struct queue *queue)
{
    struct job *last = &queue->jobs[(queue->first + queue->count + JOBS_MOST - 1) % JOBS_MOST];
    if (queue->count > 0 && last->count < JOB_IDS)
        return last;
    if (queue->count == JOBS_MOST)
        return NULL;
    struct job *job = &queue->jobs[(queue->first + queue->count++) % JOBS_MOST];
    job->count = 0;
    return job;
}

/* Add a file that the kernel holds, unless it was sent its content after time `since`. */
static void add(struct push *push, uint64_t id, int64_t since, struct job *job)
{
    struct pushed *pushed = slot_of(push, id);
    if ((pushed->id == id && pushed->when >= since) || !store_leased(push->mount->store, id))
        return;
    pushed->id = id;
    atomic_store(&pushed->when, PENDING);
    job->ids[job->count++] = id;
}

/* The same to the end of a queue. False: it is full. */
static bool enqueue(struct push *push, enum urgency urgency, uint64_t id, int64_t since)
{
    struct job *job = job_with_room(&push->queues[urgency]);
    if (job == NULL)
        return false;
    add(push, id, since, job);
    return true;
}

static size_t jobs(const struct push *push)
{
    return push->queues[SOON].count + push->queues[LATER].count;
}

/* With the lock held, after something was queued: one thread is enough for a few. */
static void wake(struct push *push)
{
    if (jobs(push) == 0 && push->sweep == SWEEP_NOT)
        return;
    if (push->idle == THREADS || (push->idle > 0 && jobs(push) > JOBS_FEW))
        pthread_cond_signal(&push->queued);
}

/* With the lock held: the next of the rest, from where the reader was and round to there. */
static void sweep(struct push *push, struct job *job)
{
    for (int i = 0; i < SWEEP_STEP && job->count < JOB_IDS && push->sweep_left > 0; i++) {
        if (push->sweep_next > push->highest)
            push->sweep_next = STORE_FIRST_ID;
        add(push, push->sweep_next++, 0, job);
        push->sweep_left--;
    }
    if (push->sweep_left == 0)
        push->sweep = SWEEP_NOT;
}

/* With the lock held, which is let go of meanwhile. */
static void consider_sweep(struct push *push)
{
    push->sweep = SWEEP_NOT;
    pthread_mutex_unlock(&push->lock);
    bool fits = room_for_all(push->mount);
    pthread_mutex_lock(&push->lock);
    if (fits)
        push->sweep = SWEEP_ON;
}

static bool take(struct push *push, struct job *job)
{
    with_mutex(&push->lock);
    push->idle++;
    while (jobs(push) == 0 && push->sweep == SWEEP_NOT && !push->stop)
        pthread_cond_wait(&push->queued, &push->lock);
    push->idle--;
    if (push->stop)
        return false;
    if (push->sweep == SWEEP_WANTED)
        consider_sweep(push);
    job->count = 0;
    if (jobs(push) == 0) {
        if (push->sweep == SWEEP_ON)
            sweep(push, job);
        return true;
    }
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
    /* If the slot is another file's by now, that is sent once more than needed. */
    atomic_store(&slot_of(push, id)->when, coarse_ms());
    return true;
}

static void *work(void *arg)
{
    struct push *push = arg;
    struct store_group *group = store_group_new(push->mount->store);
    struct job job;
    while (group != NULL && take(push, &job))
        (void)store_contents(group, job.ids, job.count, PUSH_MOST, push_one, push);
    store_group_free(group);
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

/* With the lock held: somebody has read several small files. */
static void be_busy(struct push *push, uint64_t id, int64_t now)
{
    bool first = atomic_exchange(&push->busy_until, now + BUSY_MS) < now;
    if (!first || push->sweep != SWEEP_NOT)
        return;
    push->sweep = SWEEP_WANTED;
    push->sweep_next = id;
    push->sweep_left = push->highest + 1 - STORE_FIRST_ID;
}

void push_read(struct push *push, uint64_t id)
{
    int64_t now = coarse_ms();
    with_mutex(&push->lock);
    struct stream *stream = stream_of(push, id);
    stream->window = stream->window == 0 ? WINDOW_FIRST : stream->window * 2;
    if (stream->window > WINDOW_MOST)
        stream->window = WINDOW_MOST;
    stream->used = ++push->clock;
    if (push->highest < id)
        push->highest = id;
    /* If the kernel had it and has dropped it, it has dropped what follows, too. */
    struct pushed *pushed = slot_of(push, id);
    bool evicted = pushed->id == id && pushed->when < now - EVICTED_MS;
    int64_t since = evicted ? now - EVICTED_MS : 0;
    if (evicted || stream->end < id + 1)
        stream->end = id + 1;
    pushed->id = id; /* the kernel gets it by its own READ */
    atomic_store(&pushed->when, now);
    for (; stream->end < id + 1 + stream->window; stream->end++)
        if (!enqueue(push, SOON, stream->end, since))
            break;
    if (stream->window >= WINDOW_BUSY)
        be_busy(push, id, now);
    wake(push);
}

void push_listed(struct push *push, const uint64_t *ids, size_t count)
{
    /* The kernel has just got these inodes: what it had of older ones is gone. */
    int64_t since = coarse_ms() - EVICTED_MS;
    bool busy = push_is_busy(push);
    with_mutex(&push->lock);
    for (size_t i = 0; i < count; i++) {
        if (push->highest < ids[i])
            push->highest = ids[i];
        if (busy && !enqueue(push, LATER, ids[i], since))
            break;
    }
    if (busy)
        wake(push);
}

bool push_is_busy(struct push *push)
{
    return coarse_ms() < atomic_load(&push->busy_until);
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
