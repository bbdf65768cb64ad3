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
 * live, runs of 128 KiB cost 0.5 to 0.9 ms a put, 1 MiB 7.6 ms, one run a value 9.1 ms. But each
 * extent is a call, 15 to 30 us, when a record is cloned, and a trip to the disk when it is read
 * past the cache. So they grow with the record: 32 of them, until they have reached the most.
 */
#define EXTENT_LEAST ((size_t)128 << 10)
#define EXTENT_MOST ((size_t)4 << 20)
#define EXTENTS_WANTED 32

/*
 * Payload to write in one transaction: its pages are in memory until the commit. A power of two, as
 * the extents' size, and not less. CONTENT_STEP is the usual.
 */
size_t content_step(const struct store *store);
#define CONTENT_STEP WRITER_BYTES_MAX

/* What the extents of a content of `size` bytes have, all but the last. A power of two. */
size_t extent_bytes(const struct store *store, uint64_t size);

/* What a content of `size` bytes takes in data.mdb, bytes, at most. */
uint64_t content_cost(const struct store *store, uint64_t size);

/* Where the bytes come from: exactly `size` bytes of a host file, or of memory. */
struct payload {
    int fd; /* if `bytes` is NULL */
    const void *bytes;
    uint64_t size;
};

/* Read all of [offset, offset + size). -ENODATA if the host file is shorter. */
int payload_read(const struct payload *payload, off_t offset, void *buffer, size_t size);

/*
 * Write the extents of `content` from `offset` (a multiple of content_step()) on, up to
 * content_step() bytes, and feed them to `hash`. Sets *next to where to go on: payload->size at the
 * end.
 */
int content_write(struct store *store, struct view *view, uint64_t content,
                  const struct payload *payload, uint64_t offset, XXH3_state_t *hash,
                  uint64_t *next);
/* Enter a finished content into table "contents". */
int content_enter(struct store *store, struct view *view, uint64_t content, uint64_t size,
                  const uint8_t hash[16]);
/* How many records lead to it by that table. -ENOENT if it is not in there. */
int content_references(struct store *store, struct view *view, uint64_t content, uint64_t size,
                       const uint8_t hash[16], uint32_t *references);
/* Remove it from there. */
int content_leave(struct store *store, struct view *view, uint64_t content, uint64_t size,
                  const uint8_t hash[16]);
/* Remove extents, about CONTENT_STEP bytes of them. 1 if there are more, 0 if none is left. */
int content_clear(struct store *store, struct view *view, uint64_t content);

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
int content_locate(struct store *store, struct view *view, uint64_t content, uint64_t size,
                   uint64_t offset, size_t length, struct span *spans, int max);

/* Bytes that lie in several places. */
struct piece_part {
    const void *bytes;
    size_t size;
};
/* The XXH3-64 of them, canonical. `state` is for its use; NULL will do for one part. */
void hash_piece(XXH3_state_t *state, const struct piece_part *parts, int count, uint8_t digest[8]);
/* The XXH3-128 of them, canonical; needs `state`. */
void hash_parts(XXH3_state_t *state, const struct piece_part *parts, int count, uint8_t digest[16]);

/* The XXH3-128 of some bytes, canonical. */
void hash_bytes(const void *bytes, size_t size, uint8_t digest[16]);
/* The XXH3-128 of what went into `hash`, canonical. */
void hash_finish(const XXH3_state_t *hash, uint8_t digest[16]);

/* XXH3_freeState() as a cleanup: cleanup(cleanup_hash_p) XXH3_state_t *hash = ... */
static inline void cleanup_hash_p(XXH3_state_t **hash)
{
    XXH3_freeState(*hash);
}

#endif
