/* SPDX-License-Identifier: BSD-2-Clause */
#include "loop.h"

#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "log.h"
#include "store/util.h"
#include "uring.h"

/*
 * A request may take long: it waits for a commit, or for a large file to be sealed. So a worker
 * that takes a request while no other is waiting for one at the same source starts one more.
 * Commits are shared by all who wait for one, hence the many; the few are enough for readers.
 */
#define DEVICE_FIRST 4
#define DEVICE_MOST 32
/* There is a queue for each CPU; one that is never used needs one worker nevertheless. */
#define QUEUE_FIRST 1
#define QUEUE_MOST 8

/* How long a worker may overlook the signal that tells it to stop, when it comes just before its
 * read: it is sent again after this time. */
#define STOP_AGAIN_NS 1000000

/* Where requests come from: /dev/fuse, and if rings are used, the queue of each CPU. */
struct source {
    atomic_uint waiting;  /* workers that are not serving a request */
    unsigned count, most; /* workers; guarded by the loop's lock */
};

struct worker {
    struct worker *next;
    struct loop *loop;
    struct source *source;
    struct uring *uring; /* NULL: it reads from /dev/fuse */
    pthread_t thread;
};

struct loop {
    struct fuse_session *session;
    int ended_fd;
    atomic_bool stop;
    atomic_uint running; /* workers that have not left */

    struct source *sources; /* [0] is /dev/fuse, [1 + n] the queue of CPU n */
    unsigned source_count;

    pthread_mutex_t lock; /* guards the rest */
    struct worker *workers;
};

static void *work(void *arg);

/* ------------------------------------------------------------------- workers -- */

static bool is_device(const struct loop *loop, const struct source *source)
{
    return source == &loop->sources[0];
}

static void worker_free(struct worker *worker)
{
    uring_close(worker->uring);
    free(worker);
}

/* A worker with all it needs but its thread. */
static int worker_new(struct loop *loop, struct source *source, struct worker **out)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL)
        return -ENOMEM;
    worker->loop = loop;
    worker->source = source;
    int r = 0;
    if (!is_device(loop, source))
        r = uring_open(fuse_session_fd(loop->session), (unsigned)(source - loop->sources) - 1,
                       &worker->uring);
    if (r < 0)
        worker_free(worker);
    else
        *out = worker;
    return r;
}

/* Called with the lock held, or before there are threads. */
static int worker_start(struct worker *worker)
{
    struct loop *loop = worker->loop;
    atomic_fetch_add(&loop->running, 1);
    atomic_fetch_add(&worker->source->waiting, 1);
    int rc = pthread_create(&worker->thread, NULL, work, worker);
    if (rc != 0) {
        atomic_fetch_sub(&worker->source->waiting, 1);
        atomic_fetch_sub(&loop->running, 1);
        return -rc;
    }
    worker->source->count++;
    worker->next = loop->workers;
    loop->workers = worker;
    return 0;
}

static int add_worker(struct loop *loop, struct source *source)
{
    with_mutex(&loop->lock);
    if (source->count == source->most || atomic_load(&loop->stop))
        return 0;
    struct worker *worker = NULL;
    int r = worker_new(loop, source, &worker);
    if (r == 0 && (r = worker_start(worker)) < 0)
        worker_free(worker);
    return r;
}

/* Take one request and serve it. False: the session has ended. */
static bool serve(struct worker *worker, struct fuse_buf *buffer)
{
    struct loop *loop = worker->loop;
    struct source *source = worker->source;
    int r = worker->uring != NULL ? uring_next(worker->uring, buffer)
                                  : fuse_session_receive_buf(loop->session, buffer);
    if (r == -EINTR || r == -EAGAIN)
        return true;
    if (r <= 0) {
        if (r < 0)
            log_line(LOG_ERR, "cannot read requests any more: %s", strerror(-r));
        return false;
    }
    if (atomic_fetch_sub(&source->waiting, 1) == 1)
        (void)add_worker(loop, source); /* without it, this one will be back */
    fuse_session_process_buf(loop->session, buffer);
    atomic_fetch_add(&source->waiting, 1);
    return true;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct loop *loop = worker->loop;
    struct fuse_buf buffer = {0}; /* its memory comes from libfuse, which knows the size */
    bool more = true;
    while (more && !atomic_load(&loop->stop))
        more = serve(worker, &buffer);
    if (worker->uring == NULL)
        free(buffer.mem);
    uring_close(steal_pointer(&worker->uring));
    if (!more)
        (void)eventfd_write(loop->ended_fd, 1);
    atomic_fetch_sub(&loop->running, 1);
    return NULL;
}

static void interrupt(int number)
{
    (void)number; /* that it comes is enough: read(2) returns EINTR */
}

static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = interrupt}; /* no SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
}

/* --------------------------------------------------------------------- start -- */

/* The workers of the queues, to be started when INIT is answered. Once the kernel knows that we
 * take its offer it waits for them, so what can fail is done before. */
static int prepare_queues(struct loop *loop, struct worker **out)
{
    int count = uring_queue_count();
    if (count < 0)
        return count;
    struct source *sources = calloc(1 + (size_t)count, sizeof(*sources));
    if (sources == NULL)
        return -ENOMEM;
    free(loop->sources);
    loop->sources = sources;
    loop->source_count = 1 + (unsigned)count;
    for (unsigned i = 1; i < loop->source_count; i++) {
        struct worker *worker = NULL;
        sources[i].most = QUEUE_MOST;
        int r = worker_new(loop, &sources[i], &worker);
        if (r < 0)
            return r;
        worker->next = *out;
        *out = worker;
    }
    return 0;
}

static void free_workers(struct worker *workers)
{
    while (workers != NULL) {
        struct worker *next = workers->next;
        worker_free(workers);
        workers = next;
    }
}

/* Decide whether rings are used; if so, *out are their workers. */
static void consider_rings(struct loop *loop, const struct fuse_buf *init, struct loop_rings *rings,
                           struct worker **out)
{
    if (!rings->wanted)
        return;
    if (!uring_is_offered(init)) {
        snprintf(rings->why, sizeof(rings->why), "%s", uring_why_not_offered());
        return;
    }
    int r = uring_prepare(loop->session);
    if (r < 0) {
        snprintf(rings->why, sizeof(rings->why), "%s",
                 r == -ENOTSUP ? "this libfuse was built without enable-custom-io" : strerror(-r));
        return;
    }
    r = prepare_queues(loop, out);
    if (r < 0) {
        snprintf(rings->why, sizeof(rings->why), "can't make the rings: %s", strerror(-r));
        free_workers(steal_pointer(out));
    }
    rings->used = r == 0;
}

/* INIT is always the first request, and the only one until it is answered. */
static int greet(struct loop *loop, struct loop_rings *rings, struct worker **out)
{
    struct fuse_session *session = loop->session;
    struct fuse_buf buffer = {0};
    int r;
    do
        r = fuse_session_receive_buf(session, &buffer);
    while (r == -EINTR || r == -EAGAIN);
    if (r > 0) {
        consider_rings(loop, &buffer, rings, out);
        if (rings->used)
            uring_accept(session, &buffer);
        else
            fuse_session_process_buf(session, &buffer);
    }
    free(buffer.mem);
    if (r > 0)
        return fuse_session_exited(session) ? -EPROTO : 0;
    return r == 0 ? -ENODEV : r;
}

static void loop_free(struct loop *loop)
{
    if (loop->ended_fd >= 0)
        close(loop->ended_fd);
    free_workers(loop->workers);
    free(loop->sources);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int loop_new(struct fuse_session *session, struct loop **out)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return -ENOMEM;
    loop->session = session;
    pthread_mutex_init(&loop->lock, NULL);
    loop->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->sources = calloc(1, sizeof(*loop->sources));
    loop->source_count = 1;
    if (loop->ended_fd < 0 || loop->sources == NULL) {
        int r = loop->sources == NULL ? -ENOMEM : -errno;
        loop_free(loop);
        return r;
    }
    *out = loop;
    return 0;
}

/* `prepared` are workers that are only to be started; those that are not are freed. */
static int start_workers(struct loop *loop, struct worker *prepared)
{
    int r = 0;
    loop->sources[0].most = DEVICE_MOST;
    for (int i = 0; i < DEVICE_FIRST && r == 0; i++)
        r = add_worker(loop, &loop->sources[0]);
    while (prepared != NULL && r == 0) {
        with_mutex(&loop->lock);
        struct worker *next = prepared->next;
        r = worker_start(prepared);
        if (r == 0)
            prepared = next;
    }
    free_workers(prepared);
    return r;
}

int loop_start(struct fuse_session *session, struct loop_rings *rings, struct loop **out)
{
    struct loop *loop = NULL;
    struct worker *prepared = NULL;
    int r = loop_new(session, &loop);
    if (r < 0)
        return r;
    r = greet(loop, rings, &prepared);
    if (r < 0) {
        free_workers(prepared);
        loop_free(loop);
        return r;
    }
    catch_interrupts();
    r = start_workers(loop, prepared);
    if (r < 0) {
        loop_stop(loop);
        return r;
    }
    *out = loop;
    return 0;
}

int loop_ended_fd(const struct loop *loop)
{
    return loop->ended_fd;
}

void loop_stop(struct loop *loop)
{
    if (loop == NULL)
        return;
    {
        with_mutex(&loop->lock); /* no worker is added from here on */
        atomic_store(&loop->stop, true);
    }
    while (atomic_load(&loop->running) > 0) {
        for (struct worker *worker = loop->workers; worker != NULL; worker = worker->next)
            pthread_kill(worker->thread, SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = STOP_AGAIN_NS}, NULL);
    }
    for (struct worker *worker = loop->workers; worker != NULL; worker = worker->next)
        pthread_join(worker->thread, NULL);
    loop_free(loop);
}
