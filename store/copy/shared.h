/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared.h: the files with several names that a walk has met, so that a copy can have the same
 * hard links. Memory grows with their number; files with one name don't belong here.
 * Not thread-safe.
 */
#ifndef STORE_SHARED_H
#define STORE_SHARED_H

#include <stdint.h>

#include "walk.h"

struct shared {
    uint64_t device, number; /* which file of the original it is */
    /* Where its copy is: */
    uint64_t id;          /* in a store */
    struct walk_dir *dir; /* or in this directory of the host (a reference, may be NULL), */
    char name[];          /* under this name */
};

struct shared_set {
    void *root;
};

/* NULL if it isn't there. */
struct shared *shared_find(const struct shared_set *set, uint64_t device, uint64_t number);
/* NULL: no memory. It must not be there yet. */
struct shared *shared_add(struct shared_set *set, uint64_t device, uint64_t number,
                          struct walk_dir *dir, const char *name);
void shared_remove(struct shared_set *set, struct shared *shared);
void shared_free(struct shared_set *set);

#endif
