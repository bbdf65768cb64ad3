/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ahead.h: the regular files of one directory, opened some names before it is their turn, so that
 * the disk can fetch many small files at once instead of one after the other.
 */
#ifndef STORE_AHEAD_H
#define STORE_AHEAD_H

#include "walk.h"

/* Files that are open at a time: as many requests as a disk likes to have in its queue. */
#define AHEAD_FILES 32

struct ahead {
    int dir_fd;                     /* borrowed */
    const struct walk_names *names; /* borrowed; the files are taken in this order */
    size_t next;                    /* the first name that was not looked at */
    int fds[AHEAD_FILES];           /* of name i at i modulo AHEAD_FILES; -1: none, or it failed */
};

void ahead_start(struct ahead *ahead, int dir_fd, const struct walk_names *names);
/* A descriptor of name `index`, to read from, the caller's. -errno. */
int ahead_take(struct ahead *ahead, size_t index);
/* Close what was not taken. An ahead of zeros is not allowed. */
void ahead_end(struct ahead *ahead);
#define cleanup_ahead cleanup(ahead_end)

#endif
