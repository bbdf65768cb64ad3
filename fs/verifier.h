/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verifier.h: clones that are compared with their hashes while the kernel already reads them, one
 * after the other, by a thread that is started with the first. Any thread may call.
 */
#ifndef FS_VERIFIER_H
#define FS_VERIFIER_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct verifier;

/* Called from the thread when a clone was looked at, or couldn't be. */
typedef void verifier_done_fn(void *arg, uint64_t id, bool damaged);

/* NULL: no memory. */
struct verifier *verifier_new(struct store *store, verifier_done_fn *done, void *arg);
/* What is not done isn't. NULL is allowed. */
void verifier_free(struct verifier *verifier);

/* False: too many are waiting, each has a descriptor open. */
bool verifier_has_room(struct verifier *verifier);

/* Takes the clone over. False: no memory; it is closed, and will not be compared. */
bool verifier_add(struct verifier *verifier, uint64_t id, const struct store_clone *clone);

#endif
