/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mode.h: whether the kernel asks us each time that a file is opened and closed, and what goes
 * along with that.
 *
 * Without, a warm read makes no request at all: it is the better way, if there is another to learn
 * when a file is no longer written (closing.h), and unless the answer to OPEN has something to say
 * (large.h). The answer to the first OPEN decides for the whole session.
 */
#ifndef FS_MODE_H
#define FS_MODE_H

enum mode {
    MODE_UNDECIDED,
    MODE_OPEN,    /* OPEN and RELEASE are served; writers are counted by the store */
    MODE_NO_OPEN, /* they are not asked */
};

struct mount;

/* Decide, and start the companion and what works by it. To be called once the mount is served,
 * from the main thread. Sets WAY_open. */
void mode_decide(struct mount *mount);
void mode_set(struct mount *mount, enum mode mode);

/* For requests; waits until that is decided, which is soon. */
enum mode mode_get(struct mount *mount);

/* End what uses the mount by itself: it would never end the session while we do. What was closed
 * last gets sealed. Twice does no harm. */
void mode_let_go(struct mount *mount);

#endif
