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

/* Take out the first: to be freed; NULL: there are none. */
char *told_next(struct told *told);

#endif
