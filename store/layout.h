/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layout.h: format 1, the bytes in the tables of data.mdb. docs/format.md tells the same
 * for people who write a reader; change both together.
 *
 * Keys are compared byte by byte, so numbers in keys are big-endian. Numbers in values are in
 * the byte order of the machine, as are LMDB's own pages: a store can't move between
 * byte orders anyway, and store_open() refuses the other one.
 */
#ifndef STORE_LAYOUT_H
#define STORE_LAYOUT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define LAYOUT_VERSION 1
#define LAYOUT_MAGIC "lmdbfs\n" /* with its NUL: 8 bytes */
#define LAYOUT_PACKED __attribute__((packed))

/* Features that a store can have beyond format 1. None exist yet. A reader that doesn't know
 * one may ignore it (compatible), must not write (read-only compatible), must not open
 * the store at all (incompatible). */
#define LAYOUT_KNOWN_COMPATIBLE ((uint64_t)0)
#define LAYOUT_KNOWN_READ_ONLY_COMPATIBLE ((uint64_t)0)
#define LAYOUT_KNOWN_INCOMPATIBLE ((uint64_t)0)

/* Table "meta": a name -> one of these. */
#define LAYOUT_META_FORMAT "format"   /* struct layout_format */
#define LAYOUT_META_NEXT_ID "next-id" /* uint64_t: no id from here on was ever used */
#define LAYOUT_META_SWEEP                                                                         \
    "sweep/" /* and 16 hex digits, the id of a directory that has left staging, while files below \
                it may still be marked as held -> uint64_t: their ids are below this one */

struct layout_format {
    char magic[8];
    uint32_t version;
    uint32_t page_size; /* bytes: LMDB's, fixed when the store is made */
    uint64_t compatible, read_only_compatible, incompatible;
    int64_t created;  /* seconds since 1970 */
    uint8_t uuid[16]; /* random: tells two stores apart */
};
static_assert(sizeof(struct layout_format) == 64, "format 1");

/*
 * Table "entries": parent id, place, name -> struct layout_entry.
 *
 * The place orders a directory's listing and is what a directory position (telldir) stands
 * for. It depends on the name alone: so it survives replacement and removal of the name, and
 * a restart, and needs no second index. It also spreads a directory's names evenly, so that
 * ranges of places split it well.
 */
struct layout_entry_key {
    uint64_t parent; /* big-endian */
    uint64_t place;  /* big-endian: XXH3-64 of the name >> 1, at least 8, at most 2^63 - 2 */
    char name[];     /* 1 to 255 bytes, not terminated */
} LAYOUT_PACKED;

struct layout_entry {
    uint64_t id;  /* of the record that the name leads to */
    uint8_t type; /* its file type: st_mode >> 12 */
} LAYOUT_PACKED;
static_assert(sizeof(struct layout_entry) == 9, "format 1");

/* Table "records": id (big-endian) -> struct layout_record, inline payload. */
struct layout_time {
    int64_t seconds; /* since 1970 */
    uint32_t nanoseconds;
} LAYOUT_PACKED;

enum layout_place {
    LAYOUT_INLINE = 0,  /* the payload follows the record; a directory has none */
    LAYOUT_EXTENTS = 1, /* the payload is in the extents of content `link` */
    LAYOUT_STAGED = 2,  /* the payload is the file staging/<id> (16 hex digits); none = empty */
};

#define LAYOUT_HELD                                                              \
    1 /* flag: below the staging directory, takes writers also when it is sealed \
       */

struct layout_record {
    uint16_t mode; /* st_mode, as the user gave it */
    uint8_t place; /* enum layout_place */
    uint8_t flags; /* LAYOUT_HELD */
    uint32_t uid, gid;
    uint32_t nlink; /* entries that lead here; 1 for a directory, 0 for an orphan */
    uint64_t size;  /* bytes of payload; 0 while staged and for a directory */
    uint64_t link;  /* content id (LAYOUT_EXTENTS), parent directory (directory), else 0 */
    uint8_t
        hash[16]; /* XXH3-128 of the payload, canonical; zero while staged and for a directory */
    struct layout_time atime, mtime, ctime, btime;
} LAYOUT_PACKED;
static_assert(sizeof(struct layout_record) == 96, "format 1");

/*
 * Table "extents": content id, offset in the payload (both big-endian) -> payload.
 *
 * A payload of up to page_size - 16 bytes is one value at offset 0, as it is, but zero padded
 * to a length that LMDB puts on a page of its own (layout_own_page()). A larger one is cut
 * into extents of
 *     page_size - 16 bytes that begin with struct layout_extent and the hashes of
 *         `pieces` pieces, XXH3-64, canonical; zero padded
 *     payload, zero padded to whole pages
 * LMDB puts 16 bytes of its own in front, so the payload begins on a page boundary of data.mdb. All
 * extents of a content but the last are full; their size is the writer's choice, a
 * multiple of the page size, and may differ from extent to extent.
 */
struct layout_extent {
    uint64_t content;
    uint64_t offset;  /* in the content's payload */
    uint32_t length;  /* bytes of payload, without the padding */
    uint32_t pieces;  /* hashes that follow; 0: the extent is one piece */
    uint8_t hash[16]; /* XXH3-128 of these bytes, canonical */
};
static_assert(sizeof(struct layout_extent) == 40, "format 1");

/*
 * So that a part of a large extent can be verified without the rest, it is hashed in pieces as
 * well: of 32 KiB, or of the smallest power of two that makes them at most 64.
 */
#define LAYOUT_PIECE_LEAST ((size_t)32 << 10)
#define LAYOUT_PIECES_MOST 64

static inline size_t layout_piece(size_t length)
{
    size_t piece = LAYOUT_PIECE_LEAST;
    while (length > piece * LAYOUT_PIECES_MOST)
        piece *= 2;
    return piece;
}

struct layout_extent_front {
    struct layout_extent extent;
    uint8_t pieces[LAYOUT_PIECES_MOST][8];
};
static_assert(sizeof(struct layout_extent_front) == 552, "format 1");

struct layout_extent_key {
    uint64_t content; /* big-endian */
    uint64_t offset;  /* big-endian */
} LAYOUT_PACKED;

/* Table "contents": hash, size, content id (both big-endian) -> struct layout_content. */
struct layout_content_key {
    uint8_t hash[16];
    uint64_t size;
    uint64_t content;
} LAYOUT_PACKED;

struct layout_content {
    uint32_t references; /* records that lead here; always 1 so far */
    uint32_t reserved;
};

/* Table "orphans": id (big-endian) -> one byte, why it is to be removed. */
enum layout_orphan {
    LAYOUT_ORPHAN_RECORD = 1,  /* a record without a name: when nobody holds it */
    LAYOUT_ORPHAN_CONTENT = 2, /* extents of a content that no record leads to (yet) */
};

/* ----------------------------------------------- sizes that follow from the page size -- */

/* LMDB's own bytes: a page header, a node header (mdb.c: PAGEHDRSZ, NODESIZE). */
#define LAYOUT_PAGE_HEADER 16
#define LAYOUT_NODE_HEADER 8

/* The largest node (header, key and value) that LMDB keeps in a leaf (mdb.c: me_nodemax). */
static inline size_t layout_node_max(size_t page_size)
{
    return (((page_size - LAYOUT_PAGE_HEADER) / 2) & ~(size_t)1) - sizeof(uint16_t);
}

/* The largest payload that lies in its record: 1,926 bytes with pages of 4,096. */
static inline size_t layout_inline_max(size_t page_size)
{
    return layout_node_max(page_size) - LAYOUT_NODE_HEADER - sizeof(uint64_t) -
           sizeof(struct layout_record);
}

/* More than any page size (at most 64 KiB) makes of that: for buffers. */
#define LAYOUT_INLINE_LIMIT (32 << 10)

/* The largest payload that is one unaligned value in one page: 4,080 bytes. */
static inline size_t layout_packed_max(size_t page_size)
{
    return page_size - LAYOUT_PAGE_HEADER;
}

/* The smallest value of "extents" that gets a page of its own: 2,015 bytes. */
static inline size_t layout_own_page(size_t page_size)
{
    return layout_node_max(page_size) - LAYOUT_NODE_HEADER - sizeof(struct layout_extent_key) + 1;
}

#endif
