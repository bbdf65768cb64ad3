/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h: the text of ".lmdbfs/stats", in Prometheus' text format: what the mount has done and
 * what the store holds.
 *
 * The text changes with every look at it, also in length, and a program may read it in pieces.
 * So the text that a reader got at offset 0 is kept for its next reads. A reader is a thread;
 * the last few are remembered, others get a new text.
 */
#ifndef FS_STATS_H
#define FS_STATS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STATS_READERS 8

struct mount;

struct stats {
    pthread_mutex_t lock; /* guards the rest */
    struct stats_text {
        pid_t reader;
        uint64_t age; /* `clock` when it was made */
        char *text;
        size_t length;
    } texts[STATS_READERS];
    uint64_t clock;
};

void stats_init(struct stats *stats);
void stats_destroy(struct stats *stats);

/* Copy up to `size` bytes from `offset` on: the number of bytes, 0 at the end, or -ENOMEM. Any
 * thread may call. */
ssize_t stats_read(struct mount *mount, pid_t reader, void *buffer, size_t size, off_t offset);

#endif
