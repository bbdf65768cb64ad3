/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_work.h: a group of what was taken, all the way into the tree or to .rejected, in the steps
 * that inbox_taken.h tells. For one thread, but for the counters.
 */
#ifndef FS_INBOX_WORK_H
#define FS_INBOX_WORK_H

#include <stdatomic.h>

#include "inbox_reject.h"
#include "inbox_taken.h"
#include "inbox_window.h"

struct mount;

struct work {
    struct mount *mount;
    struct taken taken;
    struct reject reject;
    struct window window;
    struct taken_group group; /* that is being worked on, or filled */
    atomic_bool stop;         /* set by any thread: do no more than has to be done */
    atomic_uint_fast64_t published, rejected;
    atomic_uint_fast64_t units; /* that wait */
};

/* `inbox` is the open directory, borrowed. -errno, and `why` says what is wrong. */
int work_open(struct work *work, struct mount *mount, int inbox, char why[STORE_WHY_MAX]);
void work_close(struct work *work);

/* Publish a group, from wherever it was left. -EBUSY: somebody has one of its files open for
 * writing; its units have become groups of their own, later ones. -EINTR: stopped. -ENOSPC and
 * others: what was done stays, to be called again. */
int work_on_group(struct work *work, uint64_t sequence);

#endif
