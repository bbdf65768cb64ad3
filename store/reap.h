/* SPDX-License-Identifier: BSD-2-Clause */
/* reap.h: remove orphans for good, in transactions of bounded size. */
#ifndef STORE_REAP_H
#define STORE_REAP_H

#include "private.h"

/* Remove those of the ids that are orphans and under no lease. A file that is just being committed
 * is left to the end of that commit, which may take long. */
int reap(struct store *store, const uint64_t *ids, size_t count);

/* The last name of `id` may just have gone: have it removed unless somebody holds it. */
void reap_unless_held(struct store *store, uint64_t id);

/*
 * In the caller's change: remove an orphan now. Returns 1, and leaves it for reap_unless_held()
 * after the change, if somebody holds it, or it has a host file, or it is too large for one change.
 */
int reap_at_once(struct store *store, struct view *view, uint64_t id);

/* Remove all orphans that are under no lease. Nobody may be making new ones. */
int reap_all(struct store *store);

/* The same beside all other work: not what may just be on its way in, which are contents without
 * a record and files that are not sealed. */
int reap_sealed(struct store *store);

#endif
