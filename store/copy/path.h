/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * path.h: paths in the store, as people write them: "a/b", "/a/b" and "a//b/./" are the same, and
 * "" and NULL are the root. Symbolic links are not followed, and ".." is refused.
 *
 * On failure the observer gets a message that names the part of the path that is wrong.
 */
#ifndef STORE_PATH_H
#define STORE_PATH_H

#include "store.h"

/* What the path leads to. `name` is the last name in it and `parent` the directory that has it (""
 * and the root for the root). -ENOENT, -ENOTDIR, -EPERM (the reserved name), -ENAMETOOLONG,
 * -EINVAL. */
int path_find(struct store *store, const char *path, const struct store_observer *observer,
              struct store_attr *attr, uint64_t *parent, char name[STORE_NAME_MAX + 1]);

/* The same for a directory, made with all above it where they are missing. `made`: it is new. */
int path_make(struct store *store, const char *path, const struct store_observer *observer,
              struct store_attr *attr, bool *made);

#endif
