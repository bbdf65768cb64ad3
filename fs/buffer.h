/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buffer.h: memory for the data of an answer. If the request came by a ring, it is where the
 * kernel takes the answer from, so that nothing is copied. Else a small buffer belongs to its
 * thread and is kept from request to request, so that its pages are faulted in only once; large
 * ones are shared by all threads and bounded in their sum: who finds none waits until an answer was
 * sent.
 */
#ifndef FS_BUFFER_H
#define FS_BUFFER_H

#include <stddef.h>

/* At least `size` bytes, aligned to 4,096, valid until the answer is sent, or until the thread asks
 * again or ends; their content is undefined. Names and data that came with the request may be
 * overwritten. NULL: no memory. Who waits for another request may not hold one. */
void *buffer_get(size_t size);

/* The thread's answer is sent. Nothing to do if it has no large buffer. */
void buffer_done(void);

/* The large buffers of all threads may take so many bytes; one may always be had. */
void buffer_limit(size_t bytes);

/* What the large buffers take now, bytes. */
size_t buffer_bytes(void);

#endif
