/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tree.h: changes to names, inside a write transaction: entries, records, link counts, times and
 * orphans kept consistent. store_mkdir() and its like (names.c) run these one by one, imports in
 * bulk.
 */
#ifndef STORE_TREE_H
#define STORE_TREE_H

#include "entry.h"
#include "private.h"
#include "record.h"

/* A record for a new file of the given type: one name, times now. */
struct layout_record tree_new_record(mode_t type, const struct store_owner *owner);

/*
 * Add a new record (its id goes to *id) under a name that must be free. `record` is
 * completed: a directory gets its parent, a set-gid parent hands its group down. Times of the
 * parent change. -EEXIST, -ENOTDIR, -ENAMETOOLONG, -EPERM (the reserved name).
 */
int tree_add(struct store *store, struct view *view, uint64_t parent, const char *name,
             struct layout_record *record, const void *payload, uint64_t *id);

/* Let go of a name and of its record's link. *gone is the record if that was the last one, else 0.
 * -ENOTEMPTY, -EISDIR (want_dir false), -ENOTDIR (want_dir true). */
int tree_remove(struct store *store, struct view *view, uint64_t parent, const char *name,
                bool want_dir, uint64_t *gone);

/* A name of record `id` has gone. *gone as in tree_remove(). */
int tree_drop_link(struct store *store, struct view *view, uint64_t id, uint64_t *gone);

/* One more name for a record; see store_link(). */
int tree_link(struct store *store, struct view *view, uint64_t id, uint64_t parent,
              const char *name);

/* store_rename(). *gone as in tree_remove(). */
int tree_rename(struct store *store, struct view *view, uint64_t old_parent, const char *old_name,
                uint64_t new_parent, const char *new_name, unsigned flags, uint64_t *gone);

/* The entry of a name. -ENOTDIR if `parent` is none. */
int tree_find(struct store *store, struct view *view, uint64_t parent, const char *name,
              struct entry *entry);

/* To be said by each change of what is published: that it changes something in directory `id`, or
 * that directory. In the staging area that publishes nothing. See view.publishes. */
int tree_publishes(struct store *store, struct view *view, uint64_t id);

/* 1 if `ancestor` is directory `id` or above it, 0 if not. */
int tree_is_below(struct store *store, struct view *view, uint64_t id, uint64_t ancestor);

#endif
