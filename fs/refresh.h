/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refresh.h: after a READ the kernel takes the file's access time for outdated, and asks for the
 * attributes again at the next stat(2). We have it ask at once, from a thread of ours, so that the
 * next reader doesn't wait for it. (It does so on mounts that are not read-only.)
 *
 * For that a file's name is needed, so the directory in which the kernel has last seen it is
 * remembered. Any thread may call; none waits.
 */
#ifndef FS_REFRESH_H
#define FS_REFRESH_H

#include <stdint.h>

struct mount;
struct refresh;

/* Needs mount->own. */
int refresh_start(struct mount *mount, struct refresh **out);
/* Requests must still be served. NULL is allowed. */
void refresh_stop(struct refresh *refresh);
void refresh_free(struct refresh *refresh);

/* The kernel has been told of this file, or directory, in this directory. */
void refresh_seen(struct refresh *refresh, uint64_t directory, uint64_t id);

/* The file is being read, or the directory listed. */
void refresh_read(struct refresh *refresh, uint64_t id);

#endif
