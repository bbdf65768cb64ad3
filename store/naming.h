/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * naming.h: what a record is called, for people, in a store that may be damaged: every step can
 * fail, and circles end. The names are to be freed; NULL: no memory. No transaction may be open.
 */
#ifndef STORE_NAMING_H
#define STORE_NAMING_H

#include "private.h"

/* A path, or "record N" if it has no name. To find the name of a file all entries may have to be
 * read: that is done only while *searches is above 0, which it counts down. */
char *naming_path(struct store *store, uint64_t id, unsigned *searches);
/* The path of a name in a directory. */
char *naming_path_in(struct store *store, uint64_t directory, const char *name);

#endif
