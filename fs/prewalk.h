/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prewalk.h: the kernel is shown the names of a tree before it asks for them.
 *
 * Looking up a name costs a round trip; a listing tells the kernel of many names in one. So when
 * somebody asks for name after name in a directory, our companion (companion.h) lists that
 * directory; and when he goes on to others, the whole tree, if it is small enough for the kernel's
 * memory, on several threads: faster than he comes along. What the kernel has already makes no
 * requests. Any thread may call; none waits.
 */
#ifndef FS_PREWALK_H
#define FS_PREWALK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mount;
struct prewalk;

/* Needs the companion. */
int prewalk_start(struct mount *mount, struct prewalk **out);
/* Requests must still be served. NULL is allowed. */
void prewalk_stop(struct prewalk *prewalk);
void prewalk_free(struct prewalk *prewalk);

/* Thread `pid` has asked for a name in this directory. */
void prewalk_looked_up(struct prewalk *prewalk, pid_t pid, uint64_t directory);
/* Names in this directory have changed. One that is being written isn't listed. */
void prewalk_changed(struct prewalk *prewalk, uint64_t directory);
/* Thread `pid` has listed a directory. */
void prewalk_listed(struct prewalk *prewalk, pid_t pid);

/* Directories and trees listed so far. */
uint64_t prewalk_count(struct prewalk *prewalk);

#endif
