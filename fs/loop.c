/* SPDX-License-Identifier: BSD-2-Clause */
#include "loop.h"

#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "intake.h"
#include "log.h"
#include "store/util.h"
#include "uring.h"
#include "uring_offer.h"

/*
 * A request may take long: it waits for a commit, or for a large file to be sealed. So a worker
 * that takes a request from /dev/fuse while no other is waiting for one there starts one more.
 * Commits are shared by all who wait for one, hence the many; the few are enough for readers.
 */
#define DEVICE_FIRST 4
#define DEVICE_MOST 32 /* more than closing.c's SEALS_MOST */

/*
 * Workers for each queue of rings. They are all there from the beginning: the kernel gives requests
 * that are waiting in a queue to those who have just answered one, never to newcomers. So as
 * many requests made on one CPU may take long before others made there have to wait. On a machine
 * with very many CPUs that is less likely, and threads are not free.
 */
#define QUEUE_WORKERS 8
#define QUEUE_WORKERS_LEAST 6 /* more than closing.c's SEALS_OF_QUEUE */
#define QUEUE_WORKERS_TOGETHER 256

/* How long a worker may overlook the signal that tells it to stop, when it comes just before its
 * read: it is sent again after this time. */
#define STOP_AGAIN_NS 1000000

/* Without memory for a buffer: when to try again. */
#define NO_MEMORY_NS 10000000

struct worker {
    struct worker *next;
    struct loop *loop;
    struct uring *uring; /* NULL: it reads from /dev/fuse */
    pthread_t thread;
};

struct loop {
    struct fuse_session *session;
    struct intake *intake;
    int ended_fd;
    atomic_bool stop;
    atomic_uint running; /* workers that have not left */
    atomic_uint waiting; /* those of /dev/fuse that are not serving a request */

    pthread_mutex_t lock; /* guards the rest */
    struct worker *workers;
    unsigned device_count; /* workers of /dev/fuse */
};

static void *work(void *arg);

/* ------------------------------------------------------------------- workers -- */

static void worker_free(struct worker *worker)
{
    uring_close(worker->uring);
    free(worker);
}

static void free_workers(struct worker *workers)
{
    while (workers != NULL) {
        struct worker *next = workers->next;
        worker_free(workers);
        workers = next;
    }
}

static struct worker *worker_new(struct loop *loop)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker != NULL)
        worker->loop = loop;
    return worker;
}

/* Called with the lock held. */
static int worker_start(struct worker *worker)
{
    struct loop *loop = worker->loop;
    atomic_fetch_add(&loop->running, 1);
    int rc = pthread_create(&worker->thread, NULL, work, worker);
    if (rc != 0) {
        atomic_fetch_sub(&loop->running, 1);
        return -rc;
    }
    worker->next = loop->workers;
    loop->workers = worker;
    return 0;
}

static int add_device_worker(struct loop *loop)
{
    with_mutex(&loop->lock);
    if (loop->device_count == DEVICE_MOST || atomic_load(&loop->stop))
        return 0;
    struct worker *worker = worker_new(loop);
    if (worker == NULL)
        return -ENOMEM;
    atomic_fetch_add(&loop->waiting, 1);
    int r = worker_start(worker);
    if (r < 0) {
        atomic_fetch_sub(&loop->waiting, 1);
        worker_free(worker);
        return r;
    }
    loop->device_count++;
    return 0;
}

/* Somebody will free some; till then requests wait in the kernel. */
static void wait_for_memory(void)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&told))
        log_line(LOG_WARNING, "no memory to receive requests: they wait");
    nanosleep(&(struct timespec){.tv_nsec = NO_MEMORY_NS}, NULL);
}

/* After what receiving a request has returned. False: the session has ended. */
static bool goes_on(int r)
{
    if (r > 0 || r == -EINTR || r == -EAGAIN)
        return true;
    if (r == -ENOMEM) {
        wait_for_memory();
        return true;
    }
    if (r < 0)
        log_line(LOG_ERR, "cannot read requests any more: %s", strerror(-r));
    return false;
}

/* Take one request and serve it. */
static bool serve_ring(struct worker *worker, struct fuse_buf *request)
{
    int r = uring_next(worker->uring, request);
    if (r > 0)
        fuse_session_process_buf(worker->loop->session, request);
    return goes_on(r);
}

static bool serve_device(struct loop *loop, struct request *request)
{
    int r = intake_receive(loop->intake, loop->session, request);
    if (r <= 0)
        return goes_on(r);
    if (atomic_fetch_sub(&loop->waiting, 1) == 1)
        (void)add_device_worker(loop); /* without it, this one will be back */
    fuse_session_process_buf(loop->session, intake_buffer(request));
    intake_done(loop->intake, request);
    atomic_fetch_add(&loop->waiting, 1);
    return true;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct loop *loop = worker->loop;
    struct fuse_buf ring_request = {0};
    struct request request = {0};
    bool more = true;
    while (more && !atomic_load(&loop->stop))
        more = worker->uring != NULL ? serve_ring(worker, &ring_request)
                                     : serve_device(loop, &request);
    intake_leave(&request);
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

static unsigned workers_of_queue(unsigned online)
{
    unsigned share = QUEUE_WORKERS_TOGETHER / online;
    return share > QUEUE_WORKERS         ? QUEUE_WORKERS
           : share < QUEUE_WORKERS_LEAST ? QUEUE_WORKERS_LEAST
                                         : share;
}

static int prepare_queue(struct loop *loop, unsigned queue, unsigned count, struct worker **out)
{
    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = worker_new(loop);
        if (worker == NULL)
            return -ENOMEM;
        worker->next = *out;
        *out = worker;
        int r = uring_open(fuse_session_fd(loop->session), queue, &worker->uring);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The workers of the queues, to be started when INIT is answered. Once the kernel knows that we
 * take its offer it waits for them, so what can fail is done before. */
static int prepare_queues(struct loop *loop, struct worker **out)
{
    unsigned online = 0;
    int count = uring_queue_count();
    for (int i = 0; i < count; i++)
        online += uring_queue_is_online((unsigned)i);
    int r = count < 0 ? count : 0;
    for (int i = 0; i < count && r == 0; i++) {
        unsigned workers =
            uring_queue_is_online((unsigned)i) ? workers_of_queue(online) : QUEUE_WORKERS_LEAST;
        r = prepare_queue(loop, (unsigned)i, workers, out);
    }
    return r;
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
    intake_free(loop->intake);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int loop_new(struct fuse_session *session, size_t intake_bytes, struct loop **out)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return -ENOMEM;
    loop->session = session;
    pthread_mutex_init(&loop->lock, NULL);
    loop->intake = intake_new(intake_bytes);
    loop->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->ended_fd < 0 || loop->intake == NULL) {
        int r = loop->intake == NULL ? -ENOMEM : -errno;
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
    for (int i = 0; i < DEVICE_FIRST && r == 0; i++)
        r = add_device_worker(loop);
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

int loop_start(struct fuse_session *session, struct loop_rings *rings, size_t intake_bytes,
               struct loop **out)
{
    struct loop *loop = NULL;
    struct worker *prepared = NULL;
    int r = loop_new(session, intake_bytes, &loop);
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
    intake_stop(loop->intake);
    while (atomic_load(&loop->running) > 0) {
        for (struct worker *worker = loop->workers; worker != NULL; worker = worker->next)
            pthread_kill(worker->thread, SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = STOP_AGAIN_NS}, NULL);
    }
    for (struct worker *worker = loop->workers; worker != NULL; worker = worker->next)
        pthread_join(worker->thread, NULL);
    loop_free(loop);
}
