/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unseal.h: sealed files that take writers again.
 *
 * What is held (see store.h) is sealed as soon as it isn't written, so that nothing is left to do
 * when it is moved to its place; but as long as it is in staging anybody may write it again. Then
 * its bytes are brought back to the staging area. Who does that once will do it again: such a file
 * is then left alone until it is moved.
 */
#ifndef STORE_UNSEAL_H
#define STORE_UNSEAL_H

#include "private.h"

struct unsealed *unsealed_new(void); /* NULL: no memory */
void unsealed_free(struct unsealed *unsealed);

/* Have a file take bytes, of which the first `keep` are what it contains: 0 also if it did before.
 * -EPERM: it is sealed for good; -EISDIR, -EINVAL: no file. The caller keeps it from being sealed,
 * see writers_leave(). */
int unseal(struct store *store, uint64_t id, uint64_t keep);

/* Whether the file was brought back a while ago. (Of many, the oldest are forgotten.) */
bool unsealed_lately(struct store *store, uint64_t id);

#endif
