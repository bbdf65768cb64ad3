/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uring_offer.h: what the kernel says about rings (uring.h) before there are any.
 */
#ifndef FS_URING_OFFER_H
#define FS_URING_OFFER_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

/* FUSE_OVER_IO_URING, in the field `flags2` of INIT and of its answer. */
#define URING_OFFER_FLAGS2 ((uint32_t)((1ULL << 41) >> 32))

/* Whether the kernel offers rings, in its request INIT; why not, in half a sentence. */
bool uring_is_offered(const struct fuse_buf *init);
const char *uring_why_not_offered(void);

/* The number of queues that the kernel has, or -ENOTSUP if we can't tell; and whether the CPU of
 * one is there now. */
int uring_queue_count(void);
bool uring_queue_is_online(unsigned queue);

#endif
