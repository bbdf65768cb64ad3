/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verify.h: content is compared with its XXH3-128 when it is read from the store: a small payload
 * each time (it costs 0.1 µs), an extent the first time. Damage is -EIO and a line in the log that
 * names the file, the extent and the offset.
 */
#ifndef STORE_VERIFY_H
#define STORE_VERIFY_H

#include "extent.h"
#include "private.h"

/* Which extents were found sound since the store was opened. Of fixed size: an extent that
 * was pushed out is verified again. */
struct verified;
struct verified *verified_new(void); /* NULL: no memory */
void verified_free(struct verified *verified);

/* Whether an inline payload is what it was. */
bool verify_inline(const struct layout_record *record, const MDB_val *payload);

/* Whether a record was removed. Its pages may hold other bytes by now: that is no damage. */
bool verify_is_gone(struct store *store, uint64_t id);

/* Put damage into the log and count it; returns -EIO, or -ENOENT if the record is gone. `extent` is
 * the offset in the file. No transaction may be open. */
int verify_report(struct store *store, uint64_t id, uint64_t extent, const char *what);

/*
 * Read a span of a record's content into `buffer`, and verify the extent that it is part of
 * unless that was done. -EIO: the disk, or damage.
 */
int verify_read(struct store *store, uint64_t id, const struct layout_record *record,
                const struct span *span, char *buffer);

/* Read an extent whole and compare it. 0, or an error that was reported. */
int verify_extent(struct store *store, uint64_t id, const struct layout_record *record,
                  const struct span *span);

/* What is known of a content as a whole; forgotten as that of extents is. */
enum verify_verdict { VERIFY_UNKNOWN, VERIFY_SOUND, VERIFY_DAMAGED };
enum verify_verdict verify_content_verdict(struct store *store, uint64_t content);
void verify_content_note(struct store *store, uint64_t content, enum verify_verdict verdict);

/* How often damage was reported since the store was opened. */
uint64_t verify_damages(const struct store *store);

#endif
