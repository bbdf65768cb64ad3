/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * extent.h: tables "extents" and "contents": payloads too large for their record.
 *
 * A content is a payload with an id of its own. Its extents never move in data.mdb while it
 * exists, so a place found by content_locate() outlives the transaction that found it as
 * long as somebody holds the record.
 */
#ifndef STORE_EXTENT_H
#define STORE_EXTENT_H

#include <xxhash.h>

#include "private.h"

/*
 * Bytes of payload in one extent. LMDB looks for that many free pages in a row: at 17 GB
 * live, runs of 128 KiB cost 0.5 to 0.9 ms a put, 1 MiB 7.6 ms, one run a value 9.1 ms.
 */
#define EXTENT_BYTES ((size_t)128 << 10)

/* Payload to write in one transaction: its pages are in memory until the commit. */
#define CONTENT_STEP (WRITER_BYTES_MAX - EXTENT_BYTES)
/* The same for a store that may take less. */
static inline size_t content_step(const struct store *store)
{
    size_t extents = store->transaction_max / EXTENT_BYTES; /* one for all that goes with them */
    return (extents > 1 ? extents - 1 : 1) * EXTENT_BYTES;
}

/* Where the bytes come from: exactly `size` bytes of a host file, or of memory. */
struct payload {
    int fd; /* if `bytes` is NULL */
    const void *bytes;
    uint64_t size;
};

/* Read all of [offset, offset + size). -ENODATA if the host file is shorter. */
int payload_read(const struct payload *payload, off_t offset, void *buffer, size_t size);

/*
 * Write the extents of `content` from `offset` (a multiple of EXTENT_BYTES) on, up to
 * content_step() bytes, and feed them to `hash`. Sets *next to where to go on: payload->size at the
 * end.
 */
int content_write(struct store *store, MDB_txn *txn, uint64_t content,
                  const struct payload *payload, uint64_t offset, XXH3_state_t *hash,
                  uint64_t *next);
/* Enter a finished content into table "contents". */
int content_enter(struct store *store, MDB_txn *txn, uint64_t content, uint64_t size,
                  const uint8_t hash[16]);
/* How many records lead to it by that table. -ENOENT if it is not in there. */
int content_references(struct store *store, MDB_txn *txn, uint64_t content, uint64_t size,
                       const uint8_t hash[16], uint32_t *references);
/* Remove it from there. */
int content_leave(struct store *store, MDB_txn *txn, uint64_t content, uint64_t size,
                  const uint8_t hash[16]);
/* Remove extents, about CONTENT_STEP bytes of them. 1 if there are more, 0 if none is left. */
int content_clear(struct store *store, MDB_txn *txn, uint64_t content);

/* A piece of payload in data.mdb. */
struct span {
    off_t offset;  /* in data.mdb */
    size_t length; /* bytes */

    /* The extent that it is in: */
    uint64_t content, start; /* its key: content id, offset in the payload */
    off_t payload;           /* in data.mdb: its first byte of payload */
    size_t size;             /* bytes of payload */
    size_t front;            /* bytes of its header page before them; 0: it has none */
};

/*
 * Find [offset, offset + length) of a content of `size` bytes. Returns the number of spans, in
 * order, which cover it as far as it exists; at most `max`. -EIO if an extent is missing. Reads no
 * page of payload.
 */
int content_locate(struct store *store, MDB_txn *txn, uint64_t content, uint64_t size,
                   uint64_t offset, size_t length, struct span *spans, int max);

/* The XXH3-128 of some bytes, canonical. */
void hash_bytes(const void *bytes, size_t size, uint8_t digest[16]);
/* The XXH3-128 of what went into `hash`, canonical. */
void hash_finish(const XXH3_state_t *hash, uint8_t digest[16]);

#endif
