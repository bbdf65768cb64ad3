/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h: paths and trees of the host's filesystems below an open directory, where others may be at
 * work: no symbolic link is followed, paths may be of any length, and neither memory nor
 * descriptors grow with a tree. Errors are negative errno.
 */
#ifndef FS_HOST_H
#define FS_HOST_H

#include <stdbool.h>
#include <sys/types.h>

/* Open the directory at `path`, relative to `fd`; "" is `fd` itself. A descriptor, the caller's. */
int host_open_directory(int fd, const char *path);

/* The same for the directory that `path` lies in; *name is the last name in it, inside of `path`.
 */
int host_open_parent(int fd, const char *path, const char **name);

/* The same, but below `to`, where directories that are missing are made as they are below `fd`: the
 * same permissions, owners and times. */
int host_copy_parents(int fd, const char *path, int to, const char **name);

/* Make directory `name`, with these permissions, unless it is there, and open it. -EPERM: it
 * belongs to somebody else, or others may write in it. */
int host_own_directory(int fd, const char *name, mode_t mode);

/* Remove what has this name, with all below it. -ENOTEMPTY: somebody else goes on to fill it. */
int host_remove_tree(int fd, const char *name);

/* Call `each` for every name in the directory but "." and "..", until it returns something else
 * than 0, and return that. It may remove the name. */
typedef int host_name_fn(void *arg, const char *name);
int host_list(int fd, host_name_fn *each, void *arg);

#endif
