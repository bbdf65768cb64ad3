/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_reject.h: DIR/.rejected of an inbox: what could not be published, under its relative path,
 * and beside each NAME a file NAME.reason that says why in a line. Where a name is taken, a number
 * is added. For one thread.
 */
#ifndef FS_INBOX_REJECT_H
#define FS_INBOX_REJECT_H

#include <stdint.h>

#include "store/store.h"

/* Lines in the log about what can't be published, per mount: the reasons are in files anyway. */
#define REJECT_LINES_MOST 32

struct reject {
    int fd;         /* of the directory */
    unsigned lines; /* in the log */
};

int reject_open(struct reject *reject, int inbox, char why[STORE_WHY_MAX]);
void reject_close(struct reject *reject);

/*
 * Move what is at `from`, relative to `fd`, to `path` in the directory. 1: done; 0: there is
 * nothing any more. A line goes to the log, as long as there are not too many.
 */
int reject_move(struct reject *reject, int fd, const char *from, const char *path,
                const char *reason);

#endif
