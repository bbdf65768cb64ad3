/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * where.h: by which name a node can be reached. The store leads from names to records only, and
 * opening a node by its handle makes the kernel forget the name that it knew: so to use the own
 * mount without side effects, names are needed.
 */
#ifndef FS_WHERE_H
#define FS_WHERE_H

#include <limits.h>
#include <stdint.h>

#include "store/store.h"

/* The name of `id` in a directory. -ENOENT: none, or it is too far down in a long listing; it is
 * searched for. */
int where_name(struct store *store, uint64_t directory, uint64_t id, char name[STORE_NAME_MAX + 1]);

/* The path of a directory from the root, "." being the root itself. -ENOENT as above,
 * -ENAMETOOLONG. */
int where_path(struct store *store, uint64_t directory, char path[PATH_MAX]);

#endif
