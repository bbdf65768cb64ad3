/* SPDX-License-Identifier: BSD-2-Clause */
/* companion_walk.h: list directories of the mount on several threads, so that the kernel has what
 * is in them. Reading a listing is all that it takes: attributes come with it. */
#ifndef FS_COMPANION_WALK_H
#define FS_COMPANION_WALK_H

#include <stdbool.h>
#include <sys/types.h>

#define WALKER_THREADS 3

struct walker;

/* Its threads, whose ids are put into `ids`, live as long as the process. `root` is borrowed. NULL:
 * no memory, no thread. */
struct walker *walker_new(int root, pid_t ids[WALKER_THREADS]);

/* List the directory at `path` from the root, or with `tree` all below it, too. Returns when that
 * is done. One at a time. */
void walk(struct walker *walker, const char *path, bool tree);

#endif
