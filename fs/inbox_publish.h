/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_publish.h: a group of units whose copy is complete in the store's staging is moved into the
 * tree, unit by unit, and the kernel is told.
 *
 * What has a name that doesn't exist yet is moved in one step, however large it is. A directory
 * whose name leads to a directory keeps that one, with its attributes, and is gone through; a file
 * or a symbolic link replaces one. For one thread, which serves no request.
 */
#ifndef FS_INBOX_PUBLISH_H
#define FS_INBOX_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

struct mount;
struct window;

struct publish {
    struct mount *mount;
    struct window *window;
    void *arg;
    /* `path` in unit number `unit` can't be published; `error` says why. 0: go on without. */
    int (*reject)(void *arg, unsigned unit, const char *path, int error);
    void (*published)(void *arg); /* a name has been moved into place */
    bool (*stop)(void *arg);      /* true: give up, with -EINTR */
};

/* Move everything in directory `staged`, which is named as taken_unit_name() says, to the root.
 * What has been moved before isn't there any more, so it can be called again when it failed. */
int publish_group(const struct publish *publish, uint64_t staged, unsigned units);

#endif
