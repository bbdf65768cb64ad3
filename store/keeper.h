/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keeper.h: the thread that keeps the store tidy behind its users' backs: seals files whose
 * writers have gone, removes orphans that nobody holds, and releases the files of trees that have
 * left staging. Any thread may call.
 */
#ifndef STORE_KEEPER_H
#define STORE_KEEPER_H

#include "private.h"

int keeper_start(struct store *store, struct keeper **out);
/* Finishes what is queued, but for trees; what comes later is left to a later start. NULL is
 * allowed. */
void keeper_stop(struct keeper *keeper);
/* After keeper_stop(), when nobody calls any more. NULL is allowed. */
void keeper_free(struct keeper *keeper);

/* Seal a file for which seal_begin() was done, then seal_end(). */
void keeper_seal(struct keeper *keeper, uint64_t id);
/* Try it again by seal_again(), a moment later, then after longer and longer ones: nobody tells
 * when the last mapping of a file ends. */
void keeper_seal_later(struct keeper *keeper, uint64_t id);
/* Remove an orphan, unless somebody holds it by then. NULL: the store could not be opened, the next
 * start does. */
void keeper_reap(struct keeper *keeper, uint64_t id);
/* There is something for sweep_some() to do. */
void keeper_sweep(struct keeper *keeper);

#endif
