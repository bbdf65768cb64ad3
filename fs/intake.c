/* SPDX-License-Identifier: BSD-2-Clause */
#include "intake.h"

#include <stdbool.h>
#include <string.h>

#include "store/util.h"

/* About what libfuse allocates for a session with WRITEs of up to 1 MiB. */
#define LARGE_BYTES ((size_t)1 << 20)
#define LARGE_MOST 32
#define LARGE_LEAST 2

/* Names, attributes and the WRITEs of small files fit. Only what is touched takes memory. */
#define SMALL_BYTES ((size_t)16 << 10)

struct intake {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t given_back;
    bool stop;
    unsigned count;
    unsigned receiving;                /* threads that wait for a request */
    struct fuse_buf *free[LARGE_MOST]; /* the last one used is the next one: its pages are there */
    unsigned free_count;
    struct fuse_buf all[LARGE_MOST]; /* their memory comes from libfuse, which knows the size */
};

struct intake *intake_new(size_t bytes)
{
    struct intake *intake = calloc(1, sizeof(*intake));
    if (intake == NULL)
        return NULL;
    pthread_mutex_init(&intake->lock, NULL);
    pthread_cond_init(&intake->given_back, NULL);
    size_t count = bytes / LARGE_BYTES;
    if (count > LARGE_MOST)
        count = LARGE_MOST;
    if (count < LARGE_LEAST)
        count = LARGE_LEAST;
    intake->count = (unsigned)count;
    while (intake->free_count < intake->count) {
        intake->free[intake->free_count] = &intake->all[intake->free_count];
        intake->free_count++;
    }
    return intake;
}

void intake_free(struct intake *intake)
{
    if (intake == NULL)
        return;
    for (unsigned i = 0; i < intake->count; i++)
        free(intake->all[i].mem);
    pthread_cond_destroy(&intake->given_back);
    pthread_mutex_destroy(&intake->lock);
    free(intake);
}

/* NULL: it is time to stop. */
static struct fuse_buf *take(struct intake *intake)
{
    with_mutex(&intake->lock);
    while (intake->free_count == 0 && !intake->stop)
        pthread_cond_wait(&intake->given_back, &intake->lock);
    if (intake->stop)
        return NULL;
    intake->receiving++;
    return intake->free[--intake->free_count];
}

/* With the lock held. As long as somebody waits for requests nobody else is woken to do so too:
 * that costs more than most requests do. */
static void wake_another(struct intake *intake)
{
    if (intake->receiving == 0 && intake->free_count > 0)
        pthread_cond_signal(&intake->given_back);
}

static void give_back(struct intake *intake, struct request *request)
{
    intake->free[intake->free_count++] = steal_pointer(&request->large);
    wake_another(intake);
}

static bool move_if_small(struct request *request, size_t size)
{
    if (request->memory == NULL)
        request->memory = malloc(SMALL_BYTES);
    if (size > SMALL_BYTES || request->memory == NULL)
        return false;
    request->small = *request->large;
    request->small.mem = request->memory;
    request->small.mem_size = SMALL_BYTES;
    memcpy(request->memory, request->large->mem, size);
    return true;
}

int intake_receive(struct intake *intake, struct fuse_session *session, struct request *request)
{
    request->large = take(intake);
    if (request->large == NULL)
        return -EINTR;
    int r = fuse_session_receive_buf(session, request->large);
    bool free = r <= 0 || move_if_small(request, (size_t)r);
    with_mutex(&intake->lock);
    intake->receiving--;
    if (free)
        give_back(intake, request);
    else
        wake_another(intake);
    return r;
}

struct fuse_buf *intake_buffer(struct request *request)
{
    return request->large != NULL ? request->large : &request->small;
}

void intake_done(struct intake *intake, struct request *request)
{
    if (request->large == NULL)
        return;
    with_mutex(&intake->lock);
    give_back(intake, request);
}

void intake_leave(struct request *request)
{
    free(steal_pointer(&request->memory));
}

void intake_stop(struct intake *intake)
{
    with_mutex(&intake->lock);
    intake->stop = true;
    pthread_cond_broadcast(&intake->given_back);
}
