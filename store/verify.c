/* SPDX-License-Identifier: BSD-2-Clause */
#include "verify.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "naming.h"
#include "record.h"

/* 512 KiB: one slot for each of the 8 GiB of extents of 128 KiB that were read last. */
#define SLOTS ((size_t)1 << 16)

/* To find the name of a file all entries may have to be read, so not more often than this. */
#define NAMES_MOST 32

struct verified {
    atomic_uint damages;
    atomic_uint_fast64_t pieces, bytes;
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

void verify_stat(const struct store *store, struct store_stat *stat)
{
    stat->damages = atomic_load(&store->verified->damages);
    stat->verified = atomic_load(&store->verified->pieces);
    stat->verified_bytes = atomic_load(&store->verified->bytes);
}

/* Whether these bytes have that hash. */
static bool matches(struct store *store, const void *bytes, size_t size, const uint8_t hash[16])
{
    uint8_t found[16];
    hash_bytes(bytes, size, found);
    atomic_fetch_add_explicit(&store->verified->pieces, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->verified->bytes, size, memory_order_relaxed);
    return memcmp(found, hash, sizeof(found)) == 0;
}

/* Contents never change and their ids are never used again, so this names what was read. */
static uint64_t fingerprint(const struct span *span)
{
    uint64_t key[2] = {span->content, span->start};
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
    unsigned searches = atomic_fetch_add(&store->verified->damages, 1) < NAMES_MOST;
    cleanup_free char *path = naming_path(store, id, &searches);
    store_warn(store, "%s: damaged: %s in the extent at offset %" PRIu64 " (record %" PRIu64 ")",
               path == NULL ? "?" : path, what, extent, id);
    return -EIO;
}

bool verify_inline(struct store *store, const struct layout_record *record, const MDB_val *payload)
{
    return store->verify == STORE_VERIFY_NEVER ||
           matches(store, payload->mv_data, payload->mv_size, record->hash);
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
    return matches(store, bytes, span->size, header.hash)
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

/* Whether the extent needs no look any more. */
static bool is_trusted(const struct store *store, uint64_t mark, _Atomic uint64_t *slot)
{
    return store->verify == STORE_VERIFY_NEVER ||
           (store->verify == STORE_VERIFY_FIRST &&
            atomic_load_explicit(slot, memory_order_relaxed) == mark);
}

int verify_read(struct store *store, uint64_t id, const struct layout_record *record,
                const struct span *span, char *buffer)
{
    uint64_t mark = fingerprint(span);
    _Atomic uint64_t *slot = slot_of(store, mark);
    if (is_trusted(store, mark, slot))
        return read_all(store, buffer, span->length, span->offset);
    int r = read_whole(store, id, record, span, buffer);
    if (r == 0)
        atomic_store_explicit(slot, mark, memory_order_relaxed);
    return r;
}
