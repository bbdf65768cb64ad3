/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verify.h: content is compared with its XXH3-128 when it is read from the store: a small payload
 * each time (it costs 0.1 µs), a piece of an extent the first time, or as store_options.verify
 * says. Damage is -EIO and a line in the log that names the file, the extent and the offset.
 */
#ifndef STORE_VERIFY_H
#define STORE_VERIFY_H

#include "extent.h"
#include "private.h"
#include "verified.h"

/* Whether an inline payload is what it was. */
bool verify_inline(struct store *store, const struct layout_record *record, const MDB_val *payload);

/* Whether a record was removed. Its pages may hold other bytes by now: that is no damage. */
bool verify_is_gone(struct store *store, uint64_t id);

/* Put damage into the log and count it; returns -EIO, or -ENOENT if the record is gone. `extent` is
 * the offset in the file. No transaction may be open. */
int verify_report(struct store *store, uint64_t id, uint64_t extent, const char *what);

/*
 * Read a span of a record's content into `buffer`, which has room for `room` bytes (no less than
 * the span; what is behind the span gets undefined), and verify the pieces of the extent that it is
 * part of, unless that was done, or is not wanted. -EIO: the disk, or damage.
 */
int verify_read(struct store *store, uint64_t id, const struct layout_record *record,
                const struct span *span, char *buffer, size_t room);

/* Read the header of an extent and hold it against where it was found: NULL, or what is wrong with
 * it. For an extent that has one. */
const char *verify_front(struct store *store, const struct span *span,
                         struct layout_extent_front *front);

/* Count content that was compared with its hash. */
void verify_count(struct store *store, uint64_t bytes);
/* Fill in what was verified, and found damaged, since the store was opened. */
void verify_stat(const struct store *store, struct store_stat *stat);

#endif
