/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pending.h: changes that are visible and not yet committed.
 *
 * A change is a function that looks and changes through a view. When it has returned, all it has
 * changed becomes visible at once, behind the changes before it: that order is the one in which
 * they would have been committed one by one. A thread commits what has gathered, in one
 * transaction, so that what a crash leaves is always what was visible at some moment.
 *
 *     own      what the change that is being made has changed so far
 *     active   what is visible and will be in the next commit
 *     frozen   what is being committed
 *     tables   what is committed
 *
 * So a name that was made and removed before the commit never gets there. If a commit fails, its
 * changes stay visible and pending.
 */
#ifndef STORE_PENDING_H
#define STORE_PENDING_H

#include <stdint.h>

#include "writer.h"

struct pending;
struct store;

/* How changes are committed. */
struct pending_limits {
    unsigned wait_ms; /* the longest that a change waits, if nobody asks for it sooner */
    size_t bytes; /* of memory for changes: half of it starts a commit, at all of it changes wait */
    bool sync;    /* who publishes something waits for its commit */
};

int pending_start(struct store *store, const struct pending_limits *limits, struct pending **out);
/* Commits what is left. NULL is allowed. */
void pending_stop(struct pending *pending);

/*
 * Run a change; it is visible when this returns 0. A negative errno of the change: nothing of it
 * is. -EROFS: a commit has failed in a way that can't be mended while the store is open. Any
 * thread, with no view open.
 *
 * With limits.sync it is durable, too, if it publishes something (tree_publishes()) and `settle`
 * says so; without that, for who has more to do before he waits, pending_settle() follows.
 */
int pending_change(struct pending *pending, writer_fn *change, void *arg, bool settle);

/* With limits.sync: wait as pending_sync() does; or have the commit of what is visible begin,
 * without waiting for it. */
int pending_settle(struct pending *pending);
void pending_hurry(struct pending *pending);

/* Wait until all that is visible now is committed, durable, and what its content took in the
 * staging area is free. The error of the commit. */
int pending_sync(struct pending *pending);

/* Wait as long as the sealed files that the next commit will bring in have `most` bytes or more,
 * and half as many as those that are being brought in; not if a commit has failed, or if many wait
 * already. */
void pending_pace(struct pending *pending, uint64_t most);

/* Run something while nothing is pending and no change is made: for who changes the tables in
 * transactions of his own. */
int pending_exclude(struct pending *pending, int (*run)(void *arg), void *arg);

/* Of view_open(): put the layers into the view, and keep them as they are until
 * pending_release(). */
void pending_hold(struct pending *pending, struct view *view);
void pending_release(struct pending *pending);

/* In a change: whether `key` is just being committed. */
bool pending_is_frozen(struct pending *pending, MDB_dbi table, const MDB_val *key);

struct pending_stat {
    uint64_t changes;   /* made so far */
    uint64_t committed; /* of them */
    size_t bytes;       /* of memory for the others */
};
void pending_stat(struct pending *pending, struct pending_stat *stat);

#endif
