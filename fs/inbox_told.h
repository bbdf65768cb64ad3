/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_told.h: names that we were told of, in the order in which each was told of last. For one
 * thread.
 */
#ifndef FS_INBOX_TOLD_H
#define FS_INBOX_TOLD_H

#include <stdbool.h>
#include <stddef.h>

struct told;

struct told *told_new(void); /* NULL: no memory */
void told_free(struct told *told);

/* It comes last from now on. -ENOMEM. */
int told_add(struct told *told, const char *name);
bool told_has(const struct told *told, const char *name);
size_t told_count(const struct told *told);

/* Remember with a name that is there that something is held for it: a number above 0. */
void told_hold(struct told *told, const char *name, int held);
/* Nothing is held any more. */
void told_let_go(struct told *told);

/* Take out the first: to be freed; NULL: there are none. *held is 0 if nothing is held for it. */
char *told_next(struct told *told, int *held);

#endif
