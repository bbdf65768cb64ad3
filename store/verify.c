/* SPDX-License-Identifier: BSD-2-Clause */
#include "verify.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "direct.h"
#include "naming.h"
#include "record.h"

/* To find the name of a file all entries may have to be read, so not more often than this. */
#define NAMES_MOST 32

void verify_count(struct store *store, uint64_t bytes)
{
    atomic_fetch_add_explicit(&store->verified_pieces, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->verified_bytes, bytes, memory_order_relaxed);
}

void verify_stat(const struct store *store, struct store_stat *stat)
{
    stat->damages = atomic_load(&store->damages);
    stat->verified = atomic_load(&store->verified_pieces);
    stat->verified_bytes = atomic_load(&store->verified_bytes);
}

bool verify_is_gone(struct store *store, uint64_t id)
{
    struct layout_record record;
    cleanup_view struct view view = {0};
    int r = view_open(store, &view);
    return r == 0 && record_get(store, &view, id, &record, NULL) == -ENOENT;
}

int verify_report(struct store *store, uint64_t id, uint64_t extent, const char *what)
{
    if (verify_is_gone(store, id))
        return -ENOENT;
    unsigned searches = atomic_fetch_add(&store->damages, 1) < NAMES_MOST;
    cleanup_free char *path = naming_path(store, id, &searches);
    store_warn(store, "%s: damaged: %s in the extent at offset %" PRIu64 " (record %" PRIu64 ")",
               path == NULL ? "?" : path, what, extent, id);
    return -EIO;
}

bool verify_inline(struct store *store, const struct layout_record *record, const MDB_val *payload)
{
    if (store->verify == STORE_VERIFY_NEVER)
        return true;
    uint8_t hash[16];
    hash_bytes(payload->mv_data, payload->mv_size, hash);
    verify_count(store, payload->mv_size);
    return memcmp(hash, record->hash, sizeof(hash)) == 0;
}

/* ------------------------------------------------------------------ reading -- */

/* What is read of an extent, so that the wanted part of it can be verified: whole pieces. All
 * offsets are in the payload of the extent. */
struct reading {
    struct store *store;
    uint64_t id;
    const struct layout_record *record;
    const struct span *span;
    size_t piece;        /* bytes */
    uint64_t known;      /* the pieces that were verified before, a bit each */
    size_t low, high;    /* what is read, */
    size_t from, to;     /* and what of it is wanted */
    char *buffer;        /* for [from, to), */
    size_t room;         /* with so many bytes */
    char *scratch;       /* for the header's page, [low, from) and [to, high); to be freed */
    XXH3_state_t *state; /* to be freed */
    struct layout_extent_front front;
};

static uint64_t bit(size_t piece)
{
    return (uint64_t)1 << piece;
}

static void cleanup_reading_p(struct reading *reading)
{
    free(reading->scratch);
    XXH3_freeState(reading->state);
}

static char *before(const struct reading *reading)
{
    return reading->scratch + reading->store->page_size;
}

static char *behind(const struct reading *reading)
{
    return before(reading) + (reading->from - reading->low);
}

/* Widen what is wanted to whole pieces, where the piece at an end is not known. */
static void widen(struct reading *reading)
{
    size_t first = reading->from / reading->piece, last = (reading->to - 1) / reading->piece;
    reading->low = reading->from;
    reading->high = reading->to;
    if (!(reading->known & bit(first)))
        reading->low = first * reading->piece;
    if (!(reading->known & bit(last)))
        reading->high = MIN((last + 1) * reading->piece, reading->span->size);
}

static bool all_known(const struct reading *reading)
{
    for (size_t at = reading->from; at < reading->to;
         at = (at / reading->piece + 1) * reading->piece)
        if (!(reading->known & bit(at / reading->piece)))
            return false;
    return true;
}

/* One read for all of it: the header's page lies before the first piece. */
static int read_all(struct reading *reading, bool with_header)
{
    struct iovec parts[4];
    int count = 0;
    size_t page = reading->store->page_size;
    off_t at = reading->span->payload + (off_t)reading->low;
    if (with_header) {
        parts[count++] = (struct iovec){reading->scratch, page};
        at -= (off_t)page;
    }
    if (reading->from > reading->low)
        parts[count++] = (struct iovec){before(reading), reading->from - reading->low};
    parts[count++] = (struct iovec){reading->buffer, reading->to - reading->from};
    if (reading->high > reading->to)
        parts[count++] = (struct iovec){behind(reading), reading->high - reading->to};
    else if (reading->to == reading->span->size && direct_wanted(reading->store, reading->record))
        direct_round_up(&parts[count - 1], reading->room);
    return direct_read(reading->store, reading->record, parts, count, at);
}

/* ----------------------------------------------------------------- comparing -- */

/* What is wrong with a header, or NULL. */
static const char *judge_front(const struct span *span, const struct layout_extent_front *front)
{
    size_t piece = layout_piece(span->size);
    size_t pieces = (span->size + piece - 1) / piece;
    bool right = front->extent.content == span->content && front->extent.offset == span->start &&
                 front->extent.length == span->size &&
                 front->extent.pieces == (pieces > 1 ? pieces : 0);
    return right ? NULL : "a wrong header";
}

const char *verify_front(struct store *store, const struct span *span,
                         struct layout_extent_front *front)
{
    off_t place = span->payload - (off_t)span->front;
    if (pread_exactly(env_fd(store->env), front, sizeof(*front), place) < 0)
        return "an unreadable header";
    return judge_front(span, front);
}

/* Read the header if it didn't come with the first piece. Without one there is only the record. */
static int get_front(struct reading *reading, bool with_header)
{
    struct layout_extent_front *front = &reading->front;
    const struct span *span = reading->span;
    const char *wrong = NULL;
    if (with_header) {
        memcpy(front, reading->scratch + LAYOUT_PAGE_HEADER, sizeof(*front));
        wrong = judge_front(span, front);
    } else if (span->front > 0) {
        wrong = verify_front(reading->store, span, front);
    } else {
        front->extent = (struct layout_extent){.length = (uint32_t)span->size};
        memcpy(front->extent.hash, reading->record->hash, sizeof(front->extent.hash));
    }
    return wrong == NULL ? 0 : verify_report(reading->store, reading->id, span->start, wrong);
}

/* The bytes [start, end) of the extent, wherever they were read to. */
static int gather(const struct reading *reading, size_t start, size_t end,
                  struct piece_part parts[3])
{
    int count = 0;
    if (start < reading->from)
        parts[count++] = (struct piece_part){before(reading) + (start - reading->low),
                                             MIN(end, reading->from) - start};
    size_t wanted = start > reading->from ? start : reading->from;
    if (wanted < MIN(end, reading->to))
        parts[count++] = (struct piece_part){reading->buffer + (wanted - reading->from),
                                             MIN(end, reading->to) - wanted};
    size_t rest = start > reading->to ? start : reading->to;
    if (rest < end)
        parts[count++] = (struct piece_part){behind(reading) + (rest - reading->to), end - rest};
    return count;
}

static bool is_sound(const struct reading *reading, size_t piece)
{
    struct piece_part parts[3];
    uint8_t hash[16];
    size_t start = piece * reading->piece;
    int count = gather(reading, start, MIN(start + reading->piece, reading->span->size), parts);
    if (reading->front.extent.pieces == 0) {
        hash_parts(reading->state, parts, count, hash);
        return memcmp(hash, reading->front.extent.hash, 16) == 0;
    }
    hash_piece(reading->state, parts, count, hash);
    return memcmp(hash, reading->front.pieces[piece], sizeof(reading->front.pieces[0])) == 0;
}

static int compare(struct reading *reading)
{
    const struct span *span = reading->span;
    uint64_t found = 0;
    for (size_t at = reading->low; at < reading->high;
         at = (at / reading->piece + 1) * reading->piece) {
        size_t piece = at / reading->piece;
        if (reading->known & bit(piece))
            continue;
        verify_count(reading->store, MIN(reading->piece, span->size - piece * reading->piece));
        if (!is_sound(reading, piece))
            return verify_report(reading->store, reading->id, span->start, "wrong bytes");
        found |= bit(piece);
    }
    verified_add(reading->store->verified, span->content, span->start, found);
    return 0;
}

/* Read what is wanted, with what it takes to verify it. */
static int read_unknown(struct reading *reading)
{
    size_t page = reading->store->page_size;
    size_t beside = (reading->from - reading->low) + (reading->high - reading->to);
    void *scratch = NULL;
    int rc = posix_memalign(&scratch, DIRECT_ALIGNMENT, page + beside);
    reading->scratch = rc == 0 ? scratch : NULL;
    reading->state = XXH3_createState();
    if (reading->scratch == NULL || reading->state == NULL)
        return -ENOMEM;
    bool with_header = reading->low == 0 && reading->span->front > 0;
    int r = read_all(reading, with_header);
    if (r < 0)
        return verify_report(reading->store, reading->id, reading->span->start, "unreadable bytes");
    r = get_front(reading, with_header);
    return r < 0 ? r : compare(reading);
}

/* The pieces of an extent that need no look (any more), a bit each. */
static uint64_t trusted(const struct store *store, const struct span *span)
{
    switch (store->verify) {
    case STORE_VERIFY_FIRST:
        return verified_pieces(store->verified, span->content, span->start);
    case STORE_VERIFY_ALWAYS:
        return 0;
    case STORE_VERIFY_NEVER:
        return UINT64_MAX;
    }
    return 0;
}

int verify_read(struct store *store, uint64_t id, const struct layout_record *record,
                const struct span *span, char *buffer, size_t room)
{
    size_t from = (size_t)(span->offset - span->payload);
    cleanup(cleanup_reading_p) struct reading reading = {
        .store = store,
        .id = id,
        .record = record,
        .span = span,
        .piece = layout_piece(span->size),
        .known = trusted(store, span),
        .from = from,
        .to = from + span->length,
        .buffer = buffer,
        .room = room,
    };
    widen(&reading);
    return all_known(&reading) ? read_all(&reading, false) : read_unknown(&reading);
}
