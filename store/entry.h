/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * entry.h: table "entries": the names in directories.
 *
 * Knows names and ids only: whether the ids exist, link counts and times are the business
 * of tree.h. All calls take part in the caller's transaction.
 */
#ifndef STORE_ENTRY_H
#define STORE_ENTRY_H

#include "private.h"

struct entry {
    uint64_t id;
    mode_t type; /* S_IFREG, S_IFDIR or S_IFLNK */
};

/* Where `name` stands in the order of its directory; see layout_entry_key. */
uint64_t entry_place(const char *name, size_t length);

/* All take names of 1 to STORE_NAME_MAX bytes, else -ENAMETOOLONG (or -ENOENT for none). */
int entry_get(struct store *store, struct view *view, uint64_t parent, const char *name,
              struct entry *entry);
/* Makes the name or lets it lead elsewhere. */
int entry_put(struct store *store, struct view *view, uint64_t parent, const char *name,
              const struct entry *entry);
/* A new name. Those that come in the order of their keys fill pages whole. -EEXIST. */
int entry_add(struct store *store, struct view *view, uint64_t parent, const char *name,
              const struct entry *entry);
int entry_remove(struct store *store, struct view *view, uint64_t parent, const char *name);

/* 1 if the directory has no entries, 0 if it has. */
int entry_none(struct store *store, struct view *view, uint64_t parent);

/* Calls `each` for the directory's entries in order, from `cursor` on (0 = the first), until it
 * returns false. `next` is the cursor to go on with behind the entry. */
typedef bool entry_fn(void *arg, const char *name, const struct entry *entry, uint64_t next);
int entry_list(struct store *store, struct view *view, uint64_t parent, uint64_t cursor,
               entry_fn *each, void *arg);

#endif
