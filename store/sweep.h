/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sweep.h: trees that leave staging.
 *
 * Moving a directory out of staging publishes any number of files in one step, because nothing is
 * done to them in that step: sweep_settle() has sealed them before, and those that are being
 * written are made durable together with the move. What is left is that each still carries the
 * flag `held`, which would give it back to writers. These flags are taken away behind the move, a
 * few at a time: by who moves the tree as far as that is quick, else by the keeper. Until then who
 * wants to write such a file waits. A mark in table "meta", made by the same change as the move,
 * has it go on after a crash.
 */
#ifndef STORE_SWEEP_H
#define STORE_SWEEP_H

#include "private.h"

struct sweeps *sweeps_new(void); /* NULL: no memory */
void sweeps_free(struct sweeps *sweeps);

/* In a change that moves directory `id`: have its files released, if they may be held and their
 * new place isn't in staging. `from`, `to`: the directories that have, and will have, its name. */
int sweep_moved(struct store *store, struct view *view, uint64_t id, uint64_t from, uint64_t to);

/* After such changes. Does what is quick. */
void sweep_start(struct store *store);
/* The keeper's part: a few files. False: nothing is left to do. */
bool sweep_some(struct store *store);
/* For store_recover(): finish what a crash interrupted. */
int sweep_resume(struct store *store);

/* Wait until it is decided whether file `id`, which is held, is still in staging. With no view
 * open. */
void sweep_wait(struct store *store, uint64_t id);
/* The store is being closed: nobody waits any more. */
void sweep_stop(struct store *store);

#endif
