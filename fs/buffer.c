/* SPDX-License-Identifier: BSD-2-Clause */
#include "buffer.h"

#include <pthread.h>
#include <stdlib.h>

#include "uring.h"

/* The kernel's usual read-ahead: most buffers never need to grow. */
#define SIZE_LEAST ((size_t)128 << 10)

struct buffer {
    size_t size;
    _Alignas(max_align_t) char data[];
};

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_error;

static void make_key(void)
{
    key_error = pthread_key_create(&key, free);
}

static void *thread_buffer(size_t size)
{
    pthread_once(&key_once, make_key);
    if (key_error != 0)
        return NULL;
    struct buffer *buffer = pthread_getspecific(key);
    if (buffer != NULL && buffer->size >= size)
        return buffer->data;
    free(buffer);
    if (size < SIZE_LEAST)
        size = SIZE_LEAST;
    buffer = malloc(sizeof(*buffer) + size);
    if (buffer != NULL)
        buffer->size = size;
    if (pthread_setspecific(key, buffer) != 0) {
        free(buffer);
        return NULL;
    }
    return buffer == NULL ? NULL : buffer->data;
}

void *buffer_get(size_t size)
{
    void *payload = uring_payload(size);
    return payload != NULL ? payload : thread_buffer(size);
}
