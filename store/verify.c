/* SPDX-License-Identifier: BSD-2-Clause */
#include "verify.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "check/check.h"
#include "record.h"

/* 512 KiB: one slot for each of the 8 GiB of extents of 128 KiB that were read last. */
#define SLOTS ((size_t)1 << 16)

/* To find the name of a file all entries may have to be read, so not more often than this. */
#define NAMES_MOST 32

struct verified {
    atomic_uint damages;
    _Atomic uint64_t slots[SLOTS]; /* fingerprints of extents, 0 = free */
};

struct verified *verified_new(void)
{
    return calloc(1, sizeof(struct verified));
}

void verified_free(struct verified *verified)
{
    free(verified);
}

uint64_t verify_damages(const struct store *store)
{
    return atomic_load(&store->verified->damages);
}

/* Contents never change and their ids are never used again, so this names what was read. */
static uint64_t fingerprint(uint64_t content, uint64_t start)
{
    uint64_t key[2] = {content, start};
    return XXH3_64bits(key, sizeof(key)) | 1;
}

static _Atomic uint64_t *slot_of(struct store *store, uint64_t mark)
{
    return &store->verified->slots[(mark >> 1) % SLOTS];
}

bool verify_is_gone(struct store *store, uint64_t id)
{
    struct layout_record record;
    cleanup_read struct env_read read = {0};
    int r = env_read(store->env, &read);
    return r == 0 && record_get(store, read.txn, id, &record, NULL) == -ENOENT;
}

int verify_report(struct store *store, uint64_t id, uint64_t extent, const char *what)
{
    if (verify_is_gone(store, id))
        return -ENOENT;
    bool named = atomic_fetch_add(&store->verified->damages, 1) < NAMES_MOST;
    struct check check = {.store = store, .names_left = named};
    cleanup_free char *path = check_path(&check, id);
    store_warn(store, "%s: damaged: %s in the extent at offset %" PRIu64 " (record %" PRIu64 ")",
               path == NULL ? "?" : path, what, extent, id);
    return -EIO;
}

bool verify_inline(const struct layout_record *record, const MDB_val *payload)
{
    uint8_t hash[16];
    hash_bytes(payload->mv_data, payload->mv_size, hash);
    return memcmp(hash, record->hash, sizeof(hash)) == 0;
}

static int read_all(struct store *store, void *buffer, size_t size, off_t offset)
{
    int r = pread_exactly(env_fd(store->env), buffer, size, offset);
    return r == -ENODATA ? -EIO : r;
}

/* Compare the whole extent with its header, or with the record if it has none. */
static int compare(struct store *store, uint64_t id, const struct layout_record *record,
                   const struct span *span, const char *bytes)
{
    struct layout_extent header = {span->content, span->start, (uint32_t)span->size, 0, {0}};
    memcpy(header.hash, record->hash, sizeof(header.hash));
    if (span->front > 0) {
        int r = read_all(store, &header, sizeof(header), span->payload - (off_t)span->front);
        if (r < 0)
            return r;
    }
    if (header.content != span->content || header.offset != span->start ||
        header.length != span->size)
        return verify_report(store, id, span->start, "a wrong header");
    uint8_t hash[16];
    hash_bytes(bytes, span->size, hash);
    return memcmp(hash, header.hash, sizeof(hash)) == 0
               ? 0
               : verify_report(store, id, span->start, "wrong bytes");
}

/* Read the extent whole, though only a part is wanted: it is nearly always wanted next. */
static int read_whole(struct store *store, uint64_t id, const struct layout_record *record,
                      const struct span *span, char *buffer)
{
    bool all = span->length == span->size;
    cleanup_free char *copy = all ? NULL : malloc(span->size);
    char *bytes = all ? buffer : copy;
    if (bytes == NULL)
        return -ENOMEM;
    int r = read_all(store, bytes, span->size, span->payload);
    if (r < 0)
        return verify_report(store, id, span->start, "unreadable bytes");
    r = compare(store, id, record, span, bytes);
    if (r == 0 && !all)
        memcpy(buffer, bytes + (span->offset - span->payload), span->length);
    return r;
}

int verify_read(struct store *store, uint64_t id, const struct layout_record *record,
                const struct span *span, char *buffer)
{
    uint64_t mark = fingerprint(span->content, span->start);
    _Atomic uint64_t *slot = slot_of(store, mark);
    if (atomic_load_explicit(slot, memory_order_relaxed) == mark)
        return read_all(store, buffer, span->length, span->offset);
    int r = read_whole(store, id, record, span, buffer);
    if (r == 0)
        atomic_store_explicit(slot, mark, memory_order_relaxed);
    return r;
}

int verify_extent(struct store *store, uint64_t id, const struct layout_record *record,
                  const struct span *span)
{
    cleanup_free char *bytes = malloc(span->size);
    if (bytes == NULL)
        return -ENOMEM;
    struct span whole = *span;
    whole.offset = span->payload;
    whole.length = span->size;
    return read_whole(store, id, record, &whole, bytes);
}

/* ----------------------------------------------------------------- contents -- */

/* No extent begins there: what is kept for a content as a whole. */
static uint64_t content_mark(uint64_t content, enum verify_verdict verdict)
{
    return fingerprint(content, UINT64_MAX - verdict);
}

enum verify_verdict verify_content_verdict(struct store *store, uint64_t content)
{
    for (enum verify_verdict verdict = VERIFY_SOUND; verdict <= VERIFY_DAMAGED; verdict++) {
        uint64_t mark = content_mark(content, verdict);
        if (atomic_load_explicit(slot_of(store, mark), memory_order_relaxed) == mark)
            return verdict;
    }
    return VERIFY_UNKNOWN;
}

void verify_content_note(struct store *store, uint64_t content, enum verify_verdict verdict)
{
    uint64_t mark = content_mark(content, verdict);
    atomic_store_explicit(slot_of(store, mark), mark, memory_order_relaxed);
}
