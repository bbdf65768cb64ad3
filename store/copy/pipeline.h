/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipeline.h: batches in a row, one being filled while the one before is being committed: reading
 * and waiting for the disk overlap. At most two of them are in memory.
 *
 * For one thread. After a failure nothing more can be added: items build on those before them.
 */
#ifndef STORE_PIPELINE_H
#define STORE_PIPELINE_H

#include "batch.h"
#include "memory.h"

/* Called from the user's thread for every item of a batch that is durable: see its result. */
typedef void pipeline_fn(void *arg, const struct batch_item *item);

struct pipeline {
    struct store *store;
    pipeline_fn *settle;
    void *arg;
    struct batch batches[2];
    struct batch *filling;
    struct batch *running; /* by the thread; NULL: none */
    pthread_t thread;
    int result; /* the thread's */
    struct memory memory;
};

int pipeline_init(struct pipeline *pipeline, struct store *store, pipeline_fn *settle, void *arg);
/* Give up what was not committed. A pipeline of zeros is allowed. */
void pipeline_end(struct pipeline *pipeline);

/* batch_add() to the batch that is being filled; if it is full, it is sent off. Negative if a
 * batch could not be committed. */
int pipeline_add(struct pipeline *pipeline, enum batch_kind kind, struct walk_dir *parent,
                 const char *name, size_t payload_size, struct batch_item **item);
/* Take back the item that was added last. */
void pipeline_take_back(struct pipeline *pipeline);

/* Commit all. */
int pipeline_flush(struct pipeline *pipeline);

#endif
