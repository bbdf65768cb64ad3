/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trim.h: give the disk back what data.mdb holds and does not use.
 *
 * LMDB keeps freed pages for itself, so its file never shrinks, and a disk that it filled would
 * stay full whatever is deleted. When the disk is short, the free pages are made holes in the file
 * (fallocate(2), FALLOC_FL_PUNCH_HOLE): their content is never read again, and LMDB may write them
 * again at any time, if there is room by then.
 */
#ifndef STORE_TRIM_H
#define STORE_TRIM_H

#include "private.h"

/*
 * Make holes of all pages that are free to everybody. 1 if more are free but for readers that are
 * about to go. 0 too where the filesystem can't make holes,
 * and if nothing was committed since the last time. From any thread but the writer's, with no
 * transaction open.
 */
int trim(struct store *store);

#endif
