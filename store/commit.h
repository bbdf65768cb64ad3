/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * commit.h: bring a layer of pending changes into the tables, in one transaction.
 *
 * Before that, the bytes of files that were sealed since the last commit come from the staging area
 * into extents: those of small files in the same transaction, those of large ones in
 * transactions before, as contents that nobody leads to yet. The bytes of unsealed files that
 * got a name are made durable where they are.
 */
#ifndef STORE_COMMIT_H
#define STORE_COMMIT_H

#include "layer.h"
#include "private.h"

struct commit_file;

/* Starts as {.store = ...}. */
struct commit {
    struct store *store;
    struct commit_file *files; /* that were sealed, by their ids */
    size_t count, room;
};

/* Commit `layer`, which nobody changes meanwhile. On an error the tables are as before, but for
 * contents that are orphans. From one thread, with no view open. */
int commit_run(struct commit *commit, const struct layer *layer);

/* When it is about to be dropped: what was changed since, in `newer`, has to know where the
 * bytes are now. */
void commit_settle(struct commit *commit, struct layer *newer);

/* After that: remove the bytes from the staging area, and have contents cleared that `layer` made
 * orphans. */
void commit_clean(struct commit *commit, const struct layer *layer);

void commit_free(struct commit *commit);

#endif
