/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_arrivals.h: what has arrived in an inbox and is complete.
 *
 * What is renamed into the directory is complete, as is a symbolic link, and a file that gets
 * another name there while nobody writes it: inotify tells of those, in order, and they are taken
 * at once. Everything else may be written in place, and so may be what is found without having been
 * told. Of that a file is taken when nobody has it open for writing and it hasn't changed for a
 * second; a directory when that is true of all in it, or else what has been like that in it for
 * longer, file by file. Several at a time are taken in the order of their change times, to which
 * renaming counts.
 *
 * Names in the directory itself that begin with a dot are left alone: they are temporary, or ours.
 * (But ".lmdbfs", which can never be published, so who put it there shall learn of it.) For one
 * thread.
 */
#ifndef FS_INBOX_ARRIVALS_H
#define FS_INBOX_ARRIVALS_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct arrivals;

/* `inbox` is the open directory, borrowed. -errno, and `why` says what is wrong. */
int arrivals_open(int inbox, struct arrivals **out, char why[STORE_WHY_MAX]);
void arrivals_free(struct arrivals *arrivals); /* NULL is allowed */

/* Readable when something arrives. */
int arrivals_fd(const struct arrivals *arrivals);
/* Milliseconds until arrivals_next() shall be called even if nothing does; -1: never. */
int arrivals_wait(const struct arrivals *arrivals);

struct arrivals_taker {
    /* Take what is at `path`, relative to the inbox, as the last unit: a number for it, above 0; 0:
     * it wasn't possible; or -errno to give up. */
    int (*take)(void *arg, const char *path);
    /* Make a unit the last one: 1. */
    int (*again)(void *arg, int unit);
    void *arg;
};

/* Take up to `most` of what is complete, in order. How many, or what `taker` gave up with: then the
 * rest is found again, later. */
int arrivals_next(struct arrivals *arrivals, unsigned most, const struct arrivals_taker *taker);

/* Names that were found and aren't complete yet, when we looked last. Any thread. */
size_t arrivals_waiting(const struct arrivals *arrivals);

#endif
