/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h: how much memory this process takes: what it may, divided among those who need it, and
 * what it does. What grows with the number of files that the kernel holds is the table of leases;
 * all else is bounded by itself.
 */
#ifndef FS_MEMORY_H
#define FS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Bytes without the leases, unless told otherwise; and the least that one may ask for. */
#define MEMORY_USUAL ((size_t)16 << 20)
#define MEMORY_LEAST ((size_t)16 << 20)

/* Who gets what, in bytes. */
struct memory_share {
    size_t transaction; /* what LMDB writes in one go */
    size_t pending;     /* changes that it hasn't written yet */
    size_t requests;    /* buffers to receive large requests in */
    size_t answers;     /* buffers for large answers */
    size_t leases;      /* 0 = no bound */
};

/* Of `bytes` in all; 0 = the usual, and any number of leases. */
struct memory_share memory_divide(size_t bytes);

/* Have malloc(3) keep little that it doesn't need. Once, before there are threads. */
void memory_frugal(void);

/* Memory that belongs to this process alone, file pages not counted; 0 if the kernel doesn't say.
 */
uint64_t memory_private(void);

/* Memory that programs of this machine could get without swapping; 0 if the kernel doesn't say. */
uint64_t memory_available(void);

#endif
