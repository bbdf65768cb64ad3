/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h: the text of ".lmdbfs/stats", in Prometheus' text format: what the mount has done and
 * what the store holds.
 *
 * The text changes with every look at it, and a program may read it in pieces, or again from the
 * kernel's cache. So every LOOKUP of the name leads to a new node, whose text stays as it is until
 * the kernel forgets the node; the name itself is not to be remembered. Any thread may call.
 */
#ifndef FS_STATS_H
#define FS_STATS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/store.h"

struct mount;

struct stats {
    pthread_mutex_t lock; /* guards the rest */
    struct stats_text *texts;
    uint64_t last;
};

void stats_init(struct stats *stats);
void stats_destroy(struct stats *stats);

/* True for the nodes that are such a text. Their ids are far above all that a store gives out. */
bool stats_is_node(uint64_t id);

/* Make a text: its node, with one lookup. -ENOMEM. */
int stats_lookup(struct mount *mount, struct store_attr *attr);
/* -ENOENT. */
int stats_getattr(struct mount *mount, uint64_t id, struct store_attr *attr);
/* Copy up to `size` bytes from `offset` on: the number of bytes, 0 at the end, or -ENOENT. */
ssize_t stats_read(struct mount *mount, uint64_t id, void *buffer, size_t size, off_t offset);
/* The kernel has dropped so many lookups. */
void stats_forget(struct mount *mount, uint64_t id, uint64_t count);

#endif
