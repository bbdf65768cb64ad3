/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buffer.h: a buffer of the calling thread's own, for the data of an answer. It is kept from
 * request to request, so that its memory is allocated and faulted in only once.
 */
#ifndef FS_BUFFER_H
#define FS_BUFFER_H

#include <stddef.h>

/* At least `size` bytes, aligned to 4,096, valid until the thread asks again or ends; their content
 * is undefined. NULL: no memory. */
void *buffer_get(size_t size);

#endif
