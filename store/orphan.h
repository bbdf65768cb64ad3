/* SPDX-License-Identifier: BSD-2-Clause */
/* orphan.h: table "orphans": what is to be removed, and survives a crash until it is. All calls
 * take part in the caller's transaction. */
#ifndef STORE_ORPHAN_H
#define STORE_ORPHAN_H

#include "private.h"

int orphan_add(struct store *store, struct view *view, uint64_t id, enum layout_orphan why);
/* Not being one is no error. */
int orphan_remove(struct store *store, struct view *view, uint64_t id);

/* The reason why `id` is an orphan, 0 if it is none. */
int orphan_get(struct store *store, struct view *view, uint64_t id);

/* The first orphan from `from` on: its id and reason. -ENOENT if there is none. */
int orphan_next(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                enum layout_orphan *why);

#endif
