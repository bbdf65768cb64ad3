/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * direct.h: payload past the page cache. Who caches content himself (the kernel, behind a mount)
 * needs no second copy of it among the pages of data.mdb. It is for large records only: small
 * ones lie close together in data.mdb, and one read from the disk brings many of them.
 */
#ifndef STORE_DIRECT_H
#define STORE_DIRECT_H

#include <sys/uio.h>

#include "private.h"

/* Bytes. Places, lengths and memory have to be multiples of it; disks want 512 or 4,096. */
#define DIRECT_ALIGNMENT ((size_t)4096)

/* True if the payload of this record is to be read past the cache. */
bool direct_wanted(const struct store *store, const struct layout_record *record);

/* Make the last part longer, up to the alignment, if there is room for it: what follows the end
 * of a payload in data.mdb is padding. */
void direct_round_up(struct iovec *part, size_t room);

/* Read all of it from `at` in data.mdb on: past the cache if that is wanted and everything is
 * aligned, else as usual. -EIO; changes `parts`. */
int direct_read(struct store *store, const struct layout_record *record, struct iovec *parts,
                int count, off_t at);

#endif
