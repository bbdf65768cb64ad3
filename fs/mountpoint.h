/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mountpoint.h: the directory to mount on: what is there now, and taking a mount away from it.
 * Paths are absolute and without symbolic links, as in /proc/self/mountinfo, which is where all
 * answers come from: asking a mount itself may hang.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include <sys/types.h>

#include "store/store.h"

/* The type under which the kernel lists our mounts: "fuse." and the subtype. */
#define MOUNTPOINT_SUBTYPE "lmdbfs"
#define MOUNTPOINT_TYPE "fuse." MOUNTPOINT_SUBTYPE

/* The absolute path of something to mount on, to be freed; NULL with errno set. Unlike realpath(3)
 * it does not need an answer from what is mounted there. */
char *mountpoint_resolve(const char *path);

/* The same for something that may not exist yet, but for what it lies in. */
char *mountpoint_resolve_new(const char *path);

/*
 * See to it that `path` is a directory to mount on. The mount of a daemon of ours that was killed
 * is taken away, with a line in the log. `why` holds one line if it can't be done. -EBUSY: it is a
 * mount of ours that lives.
 */
int mountpoint_prepare(const char *path, char why[STORE_WHY_MAX]);

/* The mount of ours that `path`, which is resolved, lies in: where it is mounted, and its source as
 * the mount table names it, both to be freed. -ENOENT: there it is not one of ours. */
int mountpoint_of(const char *path, char **point, char **source);

/* The device number of what is mounted on top of `path`, 0 if nothing is. */
dev_t mountpoint_device(const char *path);

/* True if `path` is `directory` or something in it. */
bool mountpoint_is_below(const char *path, const char *directory);

/* Whether `device` is mounted anywhere. True too if that can't be found out. */
bool mountpoint_device_in_use(dev_t device);

/* Take the mount of `device` away from `path` at once, whoever still uses it. Nothing to do if it
 * is not on top there any more. */
int mountpoint_detach(const char *path, dev_t device);

#endif
