/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buffer.h: memory for the data of an answer. If the request came by a ring, it is where the
 * kernel takes the answer from, so that nothing is copied; else a buffer of the calling thread's
 * own, kept from request to request, so that it is allocated and faulted in only once.
 */
#ifndef FS_BUFFER_H
#define FS_BUFFER_H

#include <stddef.h>

/* At least `size` bytes, valid until the thread asks again or has answered; their content is
 * undefined. Names and data that came with the request may be overwritten. NULL: no memory. */
void *buffer_get(size_t size);

#endif
