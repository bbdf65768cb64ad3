/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * content.c: the extents of one content, read from the disk and hashed.
 *
 * Each is read inside the transaction that found it, because then its pages can't be used for
 * something else meanwhile. They are read through the descriptor: a
 * disk that can't be read is an error to tell and not a signal.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "check.h"
#include "extent.h"
#include "observe.h"
#include "record.h"

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE \
    0x80 /* Linux 6.14: leave in the page cache what was there, and nothing else */
#endif

/* One content, on the way through it. */
struct reading {
    struct check *check;
    uint64_t id; /* of the record */
    const struct layout_record *record;
    bool whole;                       /* it has to be complete */
    uint64_t offset;                  /* in the payload: all before was met */
    uint64_t seek;                    /* the next extent begins here or later */
    bool hashed;                      /* all before went into check->whole */
    bool lost;                        /* nothing sensible is to be expected from here on */
    struct layout_extent_front front; /* of the extent being read */
    bool bad_piece;                   /* one had another hash */
    char problem[CHECK_PROBLEM];      /* with the extent at `at`; "" = none */
};

struct extent {
    uint64_t offset; /* in the payload, by its key */
    size_t size;     /* of the value */
    off_t at;        /* of the value, in data.mdb */
    size_t front;    /* bytes before the payload */
    size_t length;   /* bytes of payload */
};

/* ------------------------------------------------------------------ bytes -- */

static ssize_t read_piece(struct check *check, char *buffer, size_t size, off_t at)
{
    struct iovec vector = {buffer, size};
    int fd = env_fd(check->store->env);
    ssize_t n = check->cached_reads ? pread(fd, buffer, size, at)
                                    : preadv2(fd, &vector, 1, at, RWF_DONTCACHE);
    if (n < 0 && !check->cached_reads && errno != EINTR && errno != EIO) {
        check->cached_reads = true;
        n = pread(fd, buffer, size, at);
    }
    return n < 0 ? -errno : n;
}

static bool read_all(struct reading *reading, char *buffer, size_t size, off_t at)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read_piece(reading->check, buffer + done, size - done, at + (off_t)done);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return check_bad(reading->problem, "cannot be read at byte %jd of data.mdb: %s",
                             (intmax_t)at + (intmax_t)done,
                             n < 0 ? strerror((int)-n) : "the file ends");
        done += (size_t)n;
    }
    return true;
}

/* -------------------------------------------------------------- one extent -- */

/* What the key and the length of the value say. */
static bool check_shape(const struct reading *reading, struct extent *extent)
{
    size_t page = reading->check->store->page_size;
    uint64_t size = reading->record->size;
    if (size <= layout_packed_max(page)) {
        size_t least = layout_own_page(page);
        extent->front = 0;
        extent->length = size;
        return extent->offset == 0 && extent->size == (size < least ? least : size);
    }
    extent->front = page - LAYOUT_PAGE_HEADER;
    if (extent->offset >= size || extent->size <= extent->front ||
        (extent->size - extent->front) % page != 0)
        return false;
    extent->length = MIN(extent->size - extent->front, size - extent->offset);
    return extent->length + page > extent->size - extent->front;
}

static bool check_header(struct reading *reading, const struct extent *extent)
{
    const char *bytes = reading->check->buffer;
    const struct layout_extent *header = &reading->front.extent;
    memcpy(&reading->front, bytes, sizeof(reading->front));
    if (header->content != reading->record->link || header->offset != extent->offset ||
        header->length != extent->length)
        return check_bad(reading->problem, "has a header that does not belong to it");
    size_t piece = layout_piece(extent->length);
    size_t pieces = (extent->length + piece - 1) / piece;
    if (header->pieces != 0 && header->pieces != pieces)
        return check_bad(reading->problem, "has a header with a wrong number of pieces");
    size_t used = sizeof(*header) + header->pieces * sizeof(reading->front.pieces[0]);
    return check_is_zero(bytes + used, extent->front - used) ||
           check_bad(reading->problem, "has something else than zeros behind its header");
}

/* More bytes of an extent's payload, from `at` on, into the hashes of its pieces. */
static void check_pieces(struct reading *reading, const struct extent *extent, size_t at,
                         const char *bytes, size_t length)
{
    size_t piece = layout_piece(extent->length);
    for (size_t done = 0; done < length && reading->front.extent.pieces > 0;) {
        size_t n = MIN(length - done, piece - at % piece);
        if (at % piece == 0)
            XXH3_64bits_reset(reading->check->piece);
        XXH3_64bits_update(reading->check->piece, bytes + done, n);
        done += n;
        at += n;
        if (at % piece != 0 && at != extent->length)
            continue;
        uint64_t hash = htobe64(XXH3_64bits_digest(reading->check->piece));
        const uint8_t *expected = reading->front.pieces[(at - 1) / piece];
        reading->bad_piece |= memcmp(&hash, expected, sizeof(hash)) != 0;
    }
}

/* Bytes [start, start + size) of the value are in the buffer: the payload among them into the
 * hashes. */
static bool check_bytes(struct reading *reading, const struct extent *extent, size_t start,
                        size_t size)
{
    struct check *check = reading->check;
    size_t skip = start < extent->front ? extent->front - start : 0;
    size_t from = start + skip - extent->front; /* in the extent's payload */
    size_t length = from < extent->length ? MIN(size - skip, extent->length - from) : 0;
    XXH3_128bits_update(check->whole, check->buffer + skip, length);
    XXH3_128bits_update(check->extent, check->buffer + skip, length);
    check_pieces(reading, extent, from, check->buffer + skip, length);
    check->work->bytes += length;
    return check_is_zero(check->buffer + skip + length, size - skip - length) ||
           check_bad(reading->problem, "has something else than zeros behind its end");
}

static bool check_extent(struct reading *reading, struct extent *extent)
{
    struct check *check = reading->check;
    uint8_t hash[sizeof(reading->front.extent.hash)];
    bool padded = true;
    reading->front.extent.pieces = 0;
    reading->bad_piece = false;
    reading->lost = extent->at < 0 || !check_shape(reading, extent);
    if (reading->lost)
        return check_bad(reading->problem, "has an impossible place or length (%zu bytes)",
                         extent->size);
    XXH3_128bits_reset(check->extent);
    for (size_t start = 0, size; start < extent->size; start += size) {
        size = MIN(CHECK_BUFFER, extent->size - start);
        if (!read_all(reading, check->buffer, size, extent->at + (off_t)start))
            return false;
        if (start == 0 && extent->front > 0 && !check_header(reading, extent))
            return false;
        padded &= check_bytes(reading, extent, start, size);
    }
    hash_finish(check->extent, hash);
    if (extent->front > 0 && memcmp(hash, reading->front.extent.hash, sizeof(hash)) != 0)
        return check_bad(reading->problem, "is damaged: the hash does not match");
    if (reading->bad_piece)
        return check_bad(reading->problem, "has a wrong hash of a piece in its header");
    return padded;
}

/* ------------------------------------------------------------- the content -- */

/* There is nothing of [reading->offset, offset), or there is something twice. */
static void tell_place(struct reading *reading, uint64_t offset)
{
    if (offset == reading->offset)
        return;
    reading->hashed = false;
    if (!reading->whole && offset > reading->offset)
        return;
    if (offset > reading->offset)
        check_record_problem(reading->check, reading->id,
                             "bytes %" PRIu64 " to %" PRIu64 " are missing: there is no extent",
                             reading->offset, offset);
    else
        check_record_problem(reading->check, reading->id,
                             "the extent at byte %" PRIu64 " overlaps the one before", offset);
}

static void tell_extent(struct reading *reading, const struct extent *extent)
{
    if (reading->problem[0] == '\0')
        return;
    reading->hashed = false;
    check_record_problem(reading->check, reading->id,
                         "the extent at byte %" PRIu64 " of %" PRIu64 " (byte %jd of data.mdb) %s",
                         extent->offset, reading->record->size,
                         (intmax_t)extent->at + (intmax_t)extent->front, reading->problem);
}

/* The next extent of the content: 1, or 0 at the end. */
static int find_extent(const struct reading *reading, struct view *view, struct extent *extent)
{
    struct store *store = reading->check->store;
    struct layout_extent_key key = {htobe64(reading->record->link), htobe64(reading->seek)};
    MDB_cursor *extents;
    MDB_val k = {sizeof(key), &key}, v;
    int rc = mdb_cursor_open(view->txn, store->tables.extents, &extents);
    if (rc != 0)
        return lmdb_error(rc);
    rc = guard_cursor_get(extents, &k, &v, MDB_SET_RANGE);
    mdb_cursor_close(extents);
    if (rc == MDB_NOTFOUND || (rc == 0 && k.mv_size != sizeof(key)))
        return 0;
    if (rc != 0)
        return lmdb_error(rc);
    memcpy(&key, k.mv_data, sizeof(key));
    if (be64toh(key.content) != reading->record->link)
        return 0;
    *extent = (struct extent){.offset = be64toh(key.offset), .size = v.mv_size};
    extent->at = env_offset(store->env, view->txn, v.mv_data);
    return 1;
}

/* Is the record still what it was? Its content goes away with it. */
static bool still_there(const struct reading *reading, struct view *view)
{
    struct layout_record now;
    return record_get(reading->check->store, view, reading->id, &now, NULL) == 0 &&
           now.place == LAYOUT_EXTENTS && now.link == reading->record->link &&
           (now.nlink > 0 || !reading->whole);
}

/* Find and read one extent: 1, or 0 at the end, or where the record was removed meanwhile. */
static int read_extent(struct reading *reading, struct extent *extent)
{
    cleanup_view struct view view = {0};
    int r = view_open_committed(reading->check->store, &view);
    if (r < 0)
        return r;
    if (!still_there(reading, &view)) {
        reading->whole = reading->hashed = false;
        return 0;
    }
    r = find_extent(reading, &view, extent);
    if (r < 0) {
        view_close(&view);
        (void)check_bad(reading->problem, "cannot be found: %s", strerror(-r));
        *extent = (struct extent){.offset = reading->offset, .at = -1};
        tell_extent(reading, extent);
        reading->whole = false;
        return 0;
    }
    reading->problem[0] = '\0';
    if (r > 0)
        (void)check_extent(reading, extent);
    return r;
}

static int read_content(struct reading *reading)
{
    struct extent extent = {0};
    int r = 0;
    while (!reading->lost && (r = read_extent(reading, &extent)) > 0) {
        tell_place(reading, extent.offset);
        tell_extent(reading, &extent);
        reading->seek = extent.offset + 1;
        if (extent.offset + extent.length > reading->offset)
            reading->offset = extent.offset + extent.length;
        observe_progress(reading->check->observer, reading->check->work, &reading->check->all);
        if (observe_stop(reading->check->observer))
            return -EINTR;
    }
    if (r == 0 && !reading->lost)
        tell_place(reading, reading->record->size);
    return r < 0 ? r : 0;
}

int check_content(struct check *check, uint64_t id, const struct layout_record *record, bool whole)
{
    struct reading reading = {
        .check = check, .id = id, .record = record, .whole = whole, .hashed = true};
    uint8_t hash[sizeof(record->hash)];
    XXH3_128bits_reset(check->whole);
    int r = read_content(&reading);
    if (r < 0 || !reading.hashed)
        return r;
    hash_finish(check->whole, hash);
    if (memcmp(hash, record->hash, sizeof(hash)) != 0)
        check_record_problem(check, id,
                             "its content (%" PRIu64 " bytes) is damaged: the hash does not match",
                             record->size);
    return 0;
}
