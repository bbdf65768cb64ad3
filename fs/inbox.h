/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox.h: a directory of the host, anywhere outside of the mount. What is renamed into it is
 * published under the same relative path and then removed from there, also what arrived while
 * nothing was mounted: for programs that may not, or can't, write in the mount. The mount may be
 * read-only.
 *
 * inbox_arrivals finds what has arrived, and is complete. inbox_taken takes it out of the
 * directory, in groups, and tells why each is published exactly once. inbox_work brings a group
 * into the store's staging (store_take()), from where inbox_publish moves it into the tree, in the
 * order of arrival. What can't be published, inbox_reject puts into .rejected.
 *
 * A thread does all that. It waits and tries again when the disk is full, and does nothing else
 * until then: the order is kept. Only a group in which somebody has a file open for writing lets
 * others pass.
 */
#ifndef FS_INBOX_H
#define FS_INBOX_H

#include <stdbool.h>
#include <stdio.h>

#include "store/store.h"

struct inbox;
struct mount;

/* The directory of the options, made (for ourselves only) if it isn't there. Nothing is taken yet.
 * -EBUSY: another mount takes from it. `why` holds one line. */
int inbox_open(struct mount *mount, struct inbox **out, char why[STORE_WHY_MAX]);

/* Begin; requests must be served. NULL is allowed, here and below. */
int inbox_start(struct inbox *inbox);

/* Finish the group at hand, or what can't be cut short of it, and leave the rest for the next
 * mount. Requests must still be served. Twice does no harm. */
void inbox_stop(struct inbox *inbox);
void inbox_free(struct inbox *inbox);

/* In a request that has moved a name (or exchanged two), before it is answered: see
 * inbox_window.h. */
void inbox_renamed(struct inbox *inbox, uint64_t parent, const char *name, uint64_t new_parent,
                   const char *new_name, bool exchanged);

/* In Prometheus' text format: lmdbfs_inbox_... Any thread. */
void inbox_print(FILE *out, const struct inbox *inbox);

#endif
