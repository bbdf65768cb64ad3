/* SPDX-License-Identifier: BSD-2-Clause */
#include "loop.h"

#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

#include "intake.h"
#include "log.h"
#include "store/util.h"

/*
 * A request may take long: it waits for a commit, or for a large file to be sealed. So a worker
 * that takes a request while no other is waiting for one starts one more. Commits are shared
 * by all who wait for one, hence the many; the few are enough for readers.
 */
#define WORKERS_FIRST 4
#define WORKERS_MOST 32

/* How long a worker may overlook the signal that tells it to stop, when it comes just before its
 * read: it is sent again after this time. */
#define STOP_AGAIN_NS 1000000

/* Without memory for a buffer: when to try again. */
#define NO_MEMORY_NS 10000000

struct loop {
    struct fuse_session *session;
    struct intake *intake;
    int ended_fd;
    atomic_bool stop;
    atomic_uint waiting; /* workers that are not serving a request */
    atomic_uint running; /* workers that have not left */

    pthread_mutex_t lock; /* guards the rest */
    pthread_t threads[WORKERS_MOST];
    unsigned count;
};

static void *work(void *arg);

static int add_worker(struct loop *loop)
{
    with_mutex(&loop->lock);
    if (loop->count == WORKERS_MOST || atomic_load(&loop->stop))
        return 0;
    atomic_fetch_add(&loop->running, 1);
    atomic_fetch_add(&loop->waiting, 1);
    int rc = pthread_create(&loop->threads[loop->count], NULL, work, loop);
    if (rc != 0) {
        atomic_fetch_sub(&loop->waiting, 1);
        atomic_fetch_sub(&loop->running, 1);
        return -rc;
    }
    loop->count++;
    return 0;
}

/* Somebody will free some; till then requests wait in the kernel. */
static bool wait_for_memory(void)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&told))
        log_line(LOG_WARNING, "no memory to receive requests: they wait");
    nanosleep(&(struct timespec){.tv_nsec = NO_MEMORY_NS}, NULL);
    return true;
}

/* Take one request and serve it. False: the session has ended. */
static bool serve(struct loop *loop, struct request *request)
{
    int r = intake_receive(loop->intake, loop->session, request);
    if (r == -EINTR || r == -EAGAIN)
        return true;
    if (r == -ENOMEM)
        return wait_for_memory();
    if (r <= 0) {
        if (r < 0)
            log_line(LOG_ERR, "cannot read requests any more: %s", strerror(-r));
        return false;
    }
    if (atomic_fetch_sub(&loop->waiting, 1) == 1)
        (void)add_worker(loop); /* without it, this one will be back */
    fuse_session_process_buf(loop->session, intake_buffer(request));
    intake_done(loop->intake, request);
    atomic_fetch_add(&loop->waiting, 1);
    return true;
}

static void *work(void *arg)
{
    struct loop *loop = arg;
    struct request request = {0};
    bool more = true;
    while (more && !atomic_load(&loop->stop))
        more = serve(loop, &request);
    intake_leave(&request);
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

/* INIT is always the first request, and the only one until it is answered. */
static int greet(struct fuse_session *session)
{
    struct fuse_buf buffer = {0};
    int r;
    do
        r = fuse_session_receive_buf(session, &buffer);
    while (r == -EINTR || r == -EAGAIN);
    if (r > 0)
        fuse_session_process_buf(session, &buffer);
    free(buffer.mem);
    if (r > 0)
        return fuse_session_exited(session) ? -EPROTO : 0;
    return r == 0 ? -ENODEV : r;
}

static void loop_free(struct loop *loop)
{
    if (loop->ended_fd >= 0)
        close(loop->ended_fd);
    intake_free(loop->intake);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int loop_start(struct fuse_session *session, size_t intake_bytes, struct loop **out)
{
    int r = greet(session);
    if (r < 0)
        return r;
    struct loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return -ENOMEM;
    loop->session = session;
    pthread_mutex_init(&loop->lock, NULL);
    loop->intake = intake_new(intake_bytes);
    loop->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->ended_fd < 0 || loop->intake == NULL) {
        r = loop->intake == NULL ? -ENOMEM : -errno;
        loop_free(loop);
        return r;
    }
    catch_interrupts();
    for (int i = 0; i < WORKERS_FIRST && r == 0; i++)
        r = add_worker(loop);
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
        for (unsigned i = 0; i < loop->count; i++)
            pthread_kill(loop->threads[i], SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = STOP_AGAIN_NS}, NULL);
    }
    for (unsigned i = 0; i < loop->count; i++)
        pthread_join(loop->threads[i], NULL);
    loop_free(loop);
}
