/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_taken.h: what was taken out of an inbox and is on its way into the store.
 *
 *   DIR/.taken/TAG                  of one store: it has a directory .inbox-TAG in its staging
 *       /SEQUENCE                   a group of units, a number of 16 hex digits
 *       /SEQUENCE.staged            the same, when its copy is complete in the store
 *           /UNIT                   8 hex digits, in order of arrival
 *               /a/b/file           what arrived, by its path in the inbox
 *
 * A group is published exactly once, whenever the process or the machine dies, because each step is
 * durable before the next one and can be told from what is there:
 *
 *   1. the group has no mark: whatever there is of it in the store's staging is thrown away, and
 * its tree is copied there;
 *   2. the copy is durable, then the group is marked, which is durable, too;
 *   3. from now on the host's files don't count any more: what is in the store's staging is moved
 *      into place, and what has been moved isn't there any more, in the same transaction;
 *   4. nothing is left in staging, durably: the host's files are removed.
 *
 * So a file that was published, and has been replaced by somebody since, is not there to be
 * published again. The tag ties the two halves together: a directory that is used with another
 * store, or a store with another directory, leaves alone what isn't its own.
 *
 * For one thread.
 */
#ifndef FS_INBOX_TAKEN_H
#define FS_INBOX_TAKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct taken {
    struct store *store; /* borrowed */
    int inbox;           /* DIR; borrowed */
    int fd;              /* DIR/.taken/TAG */
    uint64_t staging;    /* .inbox-TAG, a directory in the store's staging */
    uint64_t last;       /* the sequence of the group that was made last */
};

struct taken_group {
    uint64_t sequence;
    bool staged;
    int fd;         /* -1: not open */
    unsigned units; /* the number of the next one */
    unsigned count; /* units that were there when it was found; of a new one 0 */
};

/* -errno, and `why` says what is wrong. */
int taken_open(struct taken *taken, struct store *store, int inbox, char why[STORE_WHY_MAX]);
void taken_close(struct taken *taken);

/* The sequences of all groups, in order, in an array to be freed. */
int taken_list(struct taken *taken, uint64_t **sequences, size_t *count);

/* Open a group. -ENOENT. */
int taken_find(struct taken *taken, uint64_t sequence, struct taken_group *group);
/* A new group, without units. */
int taken_begin(struct taken *taken, struct taken_group *group);
/* Let go of a group; an empty one is removed. */
void taken_end(struct taken *taken, struct taken_group *group);

/* Move what is at `path` in the inbox into the group, as its next unit. -ENOENT: it isn't there any
 * more. */
int taken_add(struct taken *taken, struct taken_group *group, const char *path);

/* Make a unit the last one. */
int taken_again(struct taken_group *group, unsigned unit);

/* Make a group of each of its units, in the same order, unless it has only one. */
int taken_split(struct taken *taken, struct taken_group *group);

/* Mark it as staged: durable when it returns. */
int taken_mark(struct taken *taken, struct taken_group *group);

/* It is published: remove it. */
int taken_remove(struct taken *taken, struct taken_group *group);

/* The name of a group's directory in the store's staging, and of a unit in it. */
struct taken_name {
    char text[32];
};
struct taken_name taken_group_name(uint64_t sequence);
struct taken_name taken_unit_name(unsigned unit);

#endif
