/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pages.h: the pages of data.mdb, looked at through the file descriptor before LMDB maps them.
 *
 * LMDB believes its pages: one that is missing is a SIGBUS, one that makes no sense an abort or
 * worse. So a file that is shorter than it should be is walked once, page by page of the tree, with
 * every number checked before it is used. (Shorter it can be in good health: the last pages may be
 * free and never have been written.)
 */
#ifndef STORE_PAGES_H
#define STORE_PAGES_H

#include <stdint.h>
#include <sys/types.h>

enum pages_state {
    PAGES_SOUND,
    PAGES_NOT_LMDB,     /* no meta page has LMDB's magic number */
    PAGES_OTHER_ORDER,  /* one has, in the other byte order */
    PAGES_OTHER_FORMAT, /* of an LMDB with another data format */
    PAGES_MISSING,      /* the tree leads to a page that is not in the file, or makes no sense */
};

/* Look at an open data.mdb of `size` bytes. A state, or a negative errno if it can't be read. */
int pages_look(int fd, off_t size);

#endif
