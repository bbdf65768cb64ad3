/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_scan.h: what lies in an inbox and is complete, as far as one can see by looking: nobody has
 * it open for writing, and it was left alone for a while.
 *
 * A directory is complete if that is true of all in it. In one that isn't, each file counts that
 * was left alone for longer. For one thread.
 */
#ifndef FS_INBOX_SCAN_H
#define FS_INBOX_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* How long something that may be written in place must have been left alone. Programs that write a
 * file and set its mode and times by name afterwards do so at once. Milliseconds. */
#define SCAN_QUIET_MS 1000

struct scan {
    int inbox;     /* the directory */
    unsigned most; /* to be taken */
    /* Take what is at `path`, relative to the inbox: above 0: done, 0: it wasn't possible; or
     * -errno to give up. */
    int (*take)(void *arg, const char *path);
    void *arg;

    /* What came out: */
    unsigned taken;
    size_t waiting; /* names that are not complete, or too many */
    int64_t again;  /* milliseconds until another one may be complete; -1: nothing waits */
};

/* Look, and take what is complete, in the order of change times. */
int scan_run(struct scan *scan);

/* Whether somebody has the file at `path`, relative to `fd`, open for writing. Where there are no
 * leases, nobody knows. */
bool scan_is_written(int fd, const char *path);

/* Whether this name in the inbox itself is never looked at. */
bool scan_leaves(const char *name);

#endif
