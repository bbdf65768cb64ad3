/* SPDX-License-Identifier: BSD-2-Clause */
#include "extent.h"

static struct layout_extent_key extent_key(uint64_t content, uint64_t offset)
{
    return (struct layout_extent_key){htobe64(content), htobe64(offset)};
}

static struct layout_content_key content_key(uint64_t content, uint64_t size,
                                             const uint8_t hash[16])
{
    struct layout_content_key key = {.size = htobe64(size), .content = htobe64(content)};
    memcpy(key.hash, hash, sizeof(key.hash));
    return key;
}

void hash_finish(const XXH3_state_t *hash, uint8_t digest[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash));
    memcpy(digest, canonical.digest, sizeof(canonical.digest));
}

void hash_bytes(const void *bytes, size_t size, uint8_t digest[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
    memcpy(digest, canonical.digest, sizeof(canonical.digest));
}

void hash_piece(XXH3_state_t *state, const struct piece_part *parts, int count, uint8_t digest[8])
{
    uint64_t hash;
    if (count == 1) {
        hash = XXH3_64bits(parts->bytes, parts->size);
    } else {
        XXH3_64bits_reset(state);
        for (int i = 0; i < count; i++)
            XXH3_64bits_update(state, parts[i].bytes, parts[i].size);
        hash = XXH3_64bits_digest(state);
    }
    hash = htobe64(hash);
    memcpy(digest, &hash, sizeof(hash));
}

void hash_parts(XXH3_state_t *state, const struct piece_part *parts, int count, uint8_t digest[16])
{
    XXH3_128bits_reset(state);
    for (int i = 0; i < count; i++)
        XXH3_128bits_update(state, parts[i].bytes, parts[i].size);
    hash_finish(state, digest);
}

size_t content_step(const struct store *store)
{
    size_t bytes = EXTENT_LEAST;
    while (bytes * 2 <= store->transaction_max)
        bytes *= 2;
    return bytes;
}

size_t extent_bytes(const struct store *store, uint64_t size)
{
    size_t most = MIN(EXTENT_MOST, content_step(store));
    size_t bytes = EXTENT_LEAST;
    while (bytes < most && bytes * EXTENTS_WANTED < size)
        bytes *= 2;
    return bytes;
}

uint64_t content_cost(const struct store *store, uint64_t size)
{
    uint64_t extents = size / EXTENT_LEAST + 1;
    return size + (extents + 1) * 2 * store->page_size;
}

int payload_read(const struct payload *payload, off_t offset, void *buffer, size_t size)
{
    if (payload->bytes != NULL) {
        memcpy(buffer, (const char *)payload->bytes + offset, size);
        return 0;
    }
    return pread_exactly(payload->fd, buffer, size, offset);
}

/* A value of `size` bytes in LMDB's own memory, to be filled before the next call. */
static int reserve(struct store *store, struct view *view, uint64_t content, uint64_t offset,
                   size_t size, void **value)
{
    struct layout_extent_key key = extent_key(content, offset);
    MDB_val k = {sizeof(key), &key}, v = {size, NULL};
    int rc = mdb_put(view->txn, store->tables.extents, &k, &v, MDB_RESERVE | MDB_APPEND);
    if (rc == MDB_KEYEXIST) { /* not the last key: another content is being written too */
        v.mv_size = size;
        rc = mdb_put(view->txn, store->tables.extents, &k, &v, MDB_RESERVE | MDB_NOOVERWRITE);
    }
    *value = v.mv_data;
    return lmdb_error(rc);
}

static int write_packed(struct store *store, struct view *view, uint64_t content,
                        const struct payload *payload, XXH3_state_t *hash)
{
    size_t size = payload->size;
    size_t least = layout_own_page(store->page_size);
    size_t padded = size < least ? least : size;
    void *value;
    int r = reserve(store, view, content, 0, padded, &value);
    if (r == 0)
        r = payload_read(payload, 0, value, size);
    if (r < 0)
        return r;
    memset((char *)value + size, 0, padded - size);
    XXH3_128bits_update(hash, value, size);
    return 0;
}

/* The hashes of the pieces of an extent, and their number; none if it is one. */
static uint32_t hash_pieces(const char *bytes, size_t length, uint8_t hashes[][8])
{
    size_t piece = layout_piece(length);
    if (length <= piece)
        return 0;
    uint32_t count = 0;
    for (size_t at = 0; at < length; at += piece) {
        struct piece_part part = {bytes + at, MIN(piece, length - at)};
        hash_piece(NULL, &part, 1, hashes[count++]);
    }
    return count;
}

static int write_extent(struct store *store, struct view *view, uint64_t content,
                        const struct payload *payload, uint64_t offset, size_t length,
                        XXH3_state_t *hash)
{
    size_t front = store->page_size - LAYOUT_PAGE_HEADER;
    size_t padded = (length + store->page_size - 1) / store->page_size * store->page_size;
    void *value;
    int r = reserve(store, view, content, offset, front + padded, &value);
    if (r < 0)
        return r;

    char *bytes = (char *)value + front;
    r = payload_read(payload, (off_t)offset, bytes, length);
    if (r < 0)
        return r;
    memset(bytes + length, 0, padded - length);
    XXH3_128bits_update(hash, bytes, length);

    struct layout_extent_front header = {.extent = {content, offset, (uint32_t)length, 0, {0}}};
    hash_bytes(bytes, length, header.extent.hash);
    header.extent.pieces = hash_pieces(bytes, length, header.pieces);
    memset(value, 0, front);
    memcpy(value, &header, sizeof(header));
    return 0;
}

int content_write(struct store *store, struct view *view, uint64_t content,
                  const struct payload *payload, uint64_t offset, XXH3_state_t *hash,
                  uint64_t *next)
{
    *next = payload->size;
    if (payload->size <= layout_packed_max(store->page_size))
        return write_packed(store, view, content, payload, hash);

    uint64_t end = MIN(payload->size, offset + content_step(store));
    size_t most = extent_bytes(store, payload->size);
    int r = 0;
    while (offset < end && r == 0) {
        size_t length = MIN(most, end - offset);
        r = write_extent(store, view, content, payload, offset, length, hash);
        offset += length;
    }
    *next = offset;
    return r;
}

int content_enter(struct store *store, struct view *view, uint64_t content, uint64_t size,
                  const uint8_t hash[16])
{
    struct layout_content_key key = content_key(content, size, hash);
    struct layout_content value = {.references = 1};
    MDB_val k = {sizeof(key), &key};
    MDB_val old;
    void *bytes;
    int r = view_get(view, store->tables.contents, &k, &old);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    r = view_put(view, store->tables.contents, &k, sizeof(value), &bytes);
    if (r == 0)
        memcpy(bytes, &value, sizeof(value));
    return r;
}

int content_references(struct store *store, struct view *view, uint64_t content, uint64_t size,
                       const uint8_t hash[16], uint32_t *references)
{
    struct layout_content_key key = content_key(content, size, hash);
    struct layout_content value;
    MDB_val k = {sizeof(key), &key}, v;
    int r = view_get(view, store->tables.contents, &k, &v);
    if (r < 0)
        return r;
    if (v.mv_size != sizeof(value))
        return -EIO;
    memcpy(&value, v.mv_data, sizeof(value));
    *references = value.references;
    return 0;
}

int content_leave(struct store *store, struct view *view, uint64_t content, uint64_t size,
                  const uint8_t hash[16])
{
    struct layout_content_key key = content_key(content, size, hash);
    MDB_val k = {sizeof(key), &key};
    int r = view_remove(view, store->tables.contents, &k);
    return r == -ENOENT ? 0 : r; /* half written: it never got there */
}

static int clear_some(MDB_cursor *extents, uint64_t content)
{
    const struct layout_extent_key first = extent_key(content, 0);
    for (size_t bytes = 0;;) {
        MDB_val k = {sizeof(first), (void *)&first}, v;
        int rc = guard_cursor_get(extents, &k, &v, MDB_SET_RANGE);
        if (rc == 0 && (k.mv_size != sizeof(first) ||
                        memcmp(k.mv_data, &first.content, sizeof(first.content)) != 0))
            rc = MDB_NOTFOUND;
        if (rc != 0)
            return rc == MDB_NOTFOUND ? 0 : lmdb_error(rc);
        if (bytes >= CONTENT_STEP)
            return 1;
        bytes += v.mv_size;
        rc = mdb_cursor_del(extents, 0);
        if (rc != 0)
            return lmdb_error(rc);
    }
}

int content_clear(struct store *store, struct view *view, uint64_t content)
{
    MDB_cursor *extents;
    int rc = mdb_cursor_open(view->txn, store->tables.extents, &extents);
    if (rc != 0)
        return lmdb_error(rc);
    int r = clear_some(extents, content);
    mdb_cursor_close(extents);
    return r;
}

/* Stand on the extent of `content` that has `offset` in it. */
static int seek(MDB_cursor *extents, uint64_t content, uint64_t offset, MDB_val *k, MDB_val *v)
{
    struct layout_extent_key key = extent_key(content, offset);
    *k = (MDB_val){sizeof(key), &key};
    int rc = guard_cursor_get(extents, k, v, MDB_SET_RANGE);
    if (rc == 0 && k->mv_size == sizeof(key) && memcmp(k->mv_data, &key, sizeof(key)) == 0)
        return 0;
    rc = guard_cursor_get(extents, k, v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    return rc;
}

/* The part of the extent at k, v that lies behind `offset`. */
static int span_of(struct store *store, MDB_cursor *extents, const MDB_val *k, const MDB_val *v,
                   uint64_t content, uint64_t size, uint64_t offset, struct span *span)
{
    struct layout_extent_key key;
    if (k->mv_size != sizeof(key))
        return -EIO;
    memcpy(&key, k->mv_data, sizeof(key));
    uint64_t start = be64toh(key.offset);
    size_t front =
        size <= layout_packed_max(store->page_size) ? 0 : store->page_size - LAYOUT_PAGE_HEADER;
    if (be64toh(key.content) != content || start > offset || v->mv_size < front)
        return -EIO;
    uint64_t end = MIN(size, start + v->mv_size - front);
    if (end <= offset)
        return -EIO;
    off_t value = env_offset(store->env, mdb_cursor_txn(extents), v->mv_data);
    if (value < 0)
        return -EIO;
    *span = (struct span){
        .offset = value + (off_t)(front + (offset - start)),
        .length = end - offset,
        .content = content,
        .start = start,
        .payload = value + (off_t)front,
        .size = end - start,
        .front = front,
    };
    return 0;
}

static int locate(struct store *store, MDB_cursor *extents, uint64_t content, uint64_t size,
                  uint64_t offset, size_t length, struct span *spans, int max)
{
    uint64_t end = MIN(size, offset + length);
    MDB_val k, v;
    int n = 0;
    int rc = offset < end ? seek(extents, content, offset, &k, &v) : 0;
    while (rc == 0 && offset < end && n < max) {
        int r = span_of(store, extents, &k, &v, content, size, offset, &spans[n]);
        if (r < 0)
            return r;
        spans[n].length = MIN(spans[n].length, end - offset);
        offset += spans[n++].length;
        if (offset < end && n < max)
            rc = guard_cursor_get(extents, &k, &v, MDB_NEXT);
    }
    if (rc == MDB_NOTFOUND)
        return -EIO;
    return rc != 0 ? lmdb_error(rc) : n;
}

int content_locate(struct store *store, struct view *view, uint64_t content, uint64_t size,
                   uint64_t offset, size_t length, struct span *spans, int max)
{
    MDB_cursor *extents;
    int rc = mdb_cursor_open(view->txn, store->tables.extents, &extents);
    if (rc != 0)
        return lmdb_error(rc);
    int n = locate(store, extents, content, size, offset, length, spans, max);
    mdb_cursor_close(extents);
    return n;
}
