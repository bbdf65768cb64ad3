/* SPDX-License-Identifier: BSD-2-Clause */
#include "buffer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "store/util.h"
#include "uring.h"

/* What a thread keeps for itself. */
#define OWN_BYTES ((size_t)64 << 10)

/* Large buffers have this size, that of the kernel's usual read-ahead, doubled as often as needed.
 */
#define LARGE_LEAST ((size_t)128 << 10)

/* Pages can be read from the disk straight into it. All sizes are multiples of it. */
#define ALIGNMENT ((size_t)4096)

struct buffer {
    size_t size;
    struct buffer *next;
    _Alignas(ALIGNMENT) char data[];
};

struct thread {
    struct buffer *own, *large; /* NULL: none */
};

static struct {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t freed;
    size_t limit, taken; /* bytes */
    struct buffer *idle; /* the last one used first: its pages are there */
} shared = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, SIZE_MAX, 0, NULL};

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_error;

/* ------------------------------------------------------------- shared ones -- */

static struct buffer *new_buffer(size_t size)
{
    struct buffer *buffer = aligned_alloc(ALIGNMENT, sizeof(*buffer) + size);
    if (buffer != NULL)
        *buffer = (struct buffer){.size = size};
    return buffer;
}

/* Where the smallest idle one of at least `size` bytes is linked in; NULL if there is none. */
static struct buffer **find_idle(size_t size)
{
    struct buffer **best = NULL;
    for (struct buffer **at = &shared.idle; *at != NULL; at = &(*at)->next)
        if ((*at)->size >= size && (best == NULL || (*at)->size < (*best)->size))
            best = at;
    return best;
}

static struct buffer *unlink_idle(struct buffer **at)
{
    struct buffer *buffer = *at;
    *at = buffer->next;
    return buffer;
}

static void free_idle(void)
{
    struct buffer *buffer = unlink_idle(&shared.idle);
    shared.taken -= buffer->size;
    free(buffer);
}

static void keep_to_limit(void)
{
    while (shared.taken > shared.limit && shared.idle != NULL)
        free_idle();
}

/* An idle buffer of that size, or the right to make one: then NULL is returned. */
static struct buffer *take_share(size_t size)
{
    with_mutex(&shared.lock);
    for (;;) {
        struct buffer **idle = find_idle(size);
        if (idle != NULL)
            return unlink_idle(idle);
        if (shared.taken == 0 || (size <= shared.limit && shared.taken <= shared.limit - size))
            break;
        if (shared.idle != NULL)
            free_idle();
        else
            pthread_cond_wait(&shared.freed, &shared.lock);
    }
    shared.taken += size;
    return NULL;
}

static void give_back_share(size_t size)
{
    with_mutex(&shared.lock);
    shared.taken -= size;
    pthread_cond_broadcast(&shared.freed);
}

static struct buffer *take_large(size_t wanted)
{
    size_t size = LARGE_LEAST;
    while (size < wanted)
        size *= 2;
    struct buffer *buffer = take_share(size);
    if (buffer == NULL && (buffer = new_buffer(size)) == NULL)
        give_back_share(size);
    return buffer;
}

static void give_back(struct buffer *buffer)
{
    with_mutex(&shared.lock);
    buffer->next = shared.idle;
    shared.idle = buffer;
    keep_to_limit();
    pthread_cond_broadcast(&shared.freed); /* they may wait for different sizes */
}

/* ---------------------------------------------------------------- threads -- */

static void end_thread(void *arg)
{
    struct thread *thread = arg;
    if (thread->large != NULL)
        give_back(thread->large);
    free(thread->own);
    free(thread);
}

static void make_key(void)
{
    key_error = pthread_key_create(&key, end_thread);
}

static struct thread *this_thread(void)
{
    pthread_once(&key_once, make_key);
    if (key_error != 0)
        return NULL;
    struct thread *thread = pthread_getspecific(key);
    if (thread != NULL)
        return thread;
    thread = calloc(1, sizeof(*thread));
    if (thread != NULL && pthread_setspecific(key, thread) != 0)
        free(steal_pointer(&thread));
    return thread;
}

void *buffer_get(size_t size)
{
    void *payload = uring_payload(size);
    if (payload != NULL)
        return payload;
    struct thread *thread = this_thread();
    if (thread == NULL)
        return NULL;
    buffer_done();
    if (size > OWN_BYTES) {
        thread->large = take_large(size);
        return thread->large == NULL ? NULL : thread->large->data;
    }
    if (thread->own == NULL)
        thread->own = new_buffer(OWN_BYTES);
    return thread->own == NULL ? NULL : thread->own->data;
}

void buffer_done(void)
{
    struct thread *thread = this_thread();
    if (thread != NULL && thread->large != NULL)
        give_back(steal_pointer(&thread->large));
}

void buffer_limit(size_t bytes)
{
    with_mutex(&shared.lock);
    shared.limit = bytes;
    keep_to_limit();
}

size_t buffer_bytes(void)
{
    with_mutex(&shared.lock);
    return shared.taken;
}
