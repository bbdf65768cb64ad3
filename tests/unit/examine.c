/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * examine.c: is a store what docs/format.md says it is? Looks at the tables with LMDB's own calls
 * and at the bytes as layout.h names them, so that a mistake in the modules of store/ is not made
 * here as well.
 */
#include "support.h"

#include <dirent.h>
#include <xxhash.h>

struct seen {
    uint64_t id;
    struct layout_record record;
    uint64_t names;
    bool orphan, file; /* has an entry in "orphans", a host file */
};

struct examination {
    struct store *store;
    struct view view;
    struct seen *records; /* by id */
    size_t count, room;
    uint64_t next_id;
    struct examined found;
};

#define sound(condition, ...)                        \
    do {                                             \
        if (!(condition))                            \
            fail_msg("unsound store: " __VA_ARGS__); \
    } while (0)

/* Calls `each` for all of a table. */
static uint64_t walk(struct examination *examination, MDB_dbi table,
                     void (*each)(struct examination *, const MDB_val *, const MDB_val *))
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t n = 0;
    assert_int_equal(mdb_cursor_open(examination->view.txn, table, &cursor), 0);
    for (; mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0; n++)
        each(examination, &k, &v);
    mdb_cursor_close(cursor);
    return n;
}

static struct seen *find(const struct examination *examination, uint64_t id)
{
    size_t low = 0, high = examination->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (examination->records[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool is = low < examination->count && examination->records[low].id == id;
    return is ? &examination->records[low] : NULL;
}

static bool is_zero(const void *bytes, size_t size)
{
    const char *at = bytes;
    for (size_t i = 0; i < size; i++)
        if (at[i] != 0)
            return false;
    return true;
}

static bool has_hash(const uint8_t hash[16], const void *bytes, size_t size)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
    return memcmp(hash, canonical.digest, sizeof(canonical.digest)) == 0;
}

static uint64_t big_endian(const void *bytes)
{
    uint64_t big;
    memcpy(&big, bytes, sizeof(big));
    return be64toh(big);
}

/* ---------------------------------------------------------------- records -- */

static void check_place(const struct examination *examination, uint64_t id,
                        const struct layout_record *record, const char *payload, size_t size)
{
    size_t inline_max = layout_inline_max(examination->store->page_size);
    bool directory = S_ISDIR(record->mode);
    switch (record->place) {
    case LAYOUT_INLINE:
        sound(size == record->size && size <= inline_max, "record %lu: %zu bytes inline", id, size);
        sound(directory || has_hash(record->hash, payload, size), "record %lu: hash", id);
        sound(directory || record->link == 0, "record %lu: inline, but links to a content", id);
        break;
    case LAYOUT_EXTENTS:
        sound(!directory && size == 0 && record->size > inline_max && record->link != 0,
              "record %lu: size %lu in extents", id, record->size);
        break;
    case LAYOUT_STAGED:
        sound(S_ISREG(record->mode) && size == 0 && record->size == 0 && record->link == 0 &&
                  is_zero(record->hash, sizeof(record->hash)),
              "record %lu: staged", id);
        break;
    default:
        sound(false, "record %lu: place %u", id, record->place);
    }
    sound(record->flags == 0 || (record->flags == LAYOUT_HELD && S_ISREG(record->mode)),
          "record %lu: flags %#x", id, record->flags);
}

static void note_record(struct examination *examination, const MDB_val *k, const MDB_val *v)
{
    struct seen seen = {.id = big_endian(k->mv_data)};
    sound(k->mv_size == 8 && v->mv_size >= sizeof(seen.record), "a record of %zu bytes",
          v->mv_size);
    memcpy(&seen.record, v->mv_data, sizeof(seen.record));
    bool fixed = seen.id == STORE_ROOT_ID || seen.id == STORE_STAGING_ID;
    sound(fixed || (seen.id >= STORE_FIRST_ID && seen.id < examination->next_id),
          "record %lu, but the next id is %lu", seen.id, examination->next_id);
    sound(seen.record.atime.nanoseconds < 1000000000 && seen.record.mtime.nanoseconds < 1000000000,
          "record %lu: times", seen.id);
    check_place(examination, seen.id, &seen.record, (char *)v->mv_data + sizeof(seen.record),
                v->mv_size - sizeof(seen.record));

    if (examination->count == examination->room) {
        examination->room = examination->room * 2 + 1024;
        examination->records = reallocarray(examination->records, examination->room, sizeof(seen));
        must(examination->records != NULL);
    }
    examination->records[examination->count++] = seen;
}

/* ---------------------------------------------------------------- entries -- */

static void check_entry(struct examination *examination, const MDB_val *k, const MDB_val *v)
{
    struct layout_entry_key key;
    struct layout_entry entry;
    sound(k->mv_size > sizeof(key) && k->mv_size <= sizeof(key) + STORE_NAME_MAX &&
              v->mv_size == sizeof(entry),
          "an entry of %zu + %zu bytes", k->mv_size, v->mv_size);
    memcpy(&key, k->mv_data, sizeof(key));
    memcpy(&entry, v->mv_data, sizeof(entry));
    uint64_t parent = be64toh(key.parent), place = be64toh(key.place);
    const char *name = (char *)k->mv_data + sizeof(key);
    int length = (int)(k->mv_size - sizeof(key));

    uint64_t expected = XXH3_64bits(name, (size_t)length) >> 1;
    expected = expected < 8 ? 8 : expected > INT64_MAX - 1 ? INT64_MAX - 1 : expected;
    sound(place == expected, "\"%.*s\" in %lu: its place", length, name, parent);
    sound(memchr(name, 0, (size_t)length) == NULL && memchr(name, '/', (size_t)length) == NULL,
          "\"%.*s\" in %lu: bytes", length, name, parent);

    const struct seen *directory = find(examination, parent);
    struct seen *child = find(examination, entry.id);
    sound(directory != NULL && S_ISDIR(directory->record.mode) && directory->record.nlink > 0,
          "\"%.*s\" in %lu, which is no directory", length, name, parent);
    sound(child != NULL, "\"%.*s\" in %lu leads to %lu, which is not there", length, name, parent,
          entry.id);
    sound(entry.type == child->record.mode >> 12, "\"%.*s\" in %lu: type", length, name, parent);
    sound(!S_ISDIR(child->record.mode) || child->record.link == parent,
          "\"%.*s\" in %lu: its parent is %lu", length, name, parent, child->record.link);
    child->names++;
}

static void check_orphan(struct examination *examination, const MDB_val *k, const MDB_val *v)
{
    uint64_t id = big_endian(k->mv_data);
    uint8_t why = v->mv_size == 1 ? *(uint8_t *)v->mv_data : 0;
    struct seen *record = find(examination, id);
    sound(why == LAYOUT_ORPHAN_RECORD || why == LAYOUT_ORPHAN_CONTENT, "orphan %lu: why", id);
    sound((why == LAYOUT_ORPHAN_RECORD) == (record != NULL), "orphan %lu: record", id);
    if (record != NULL)
        record->orphan = true;
}

/* Every way up ends in the root or in staging. */
static void check_way_up(const struct examination *examination, const struct seen *seen)
{
    for (size_t depth = 0; seen->id != STORE_ROOT_ID && seen->id != STORE_STAGING_ID; depth++) {
        sound(depth <= examination->count, "directory %lu is below itself", seen->id);
        uint64_t parent = seen->record.link;
        seen = find(examination, parent);
        sound(seen != NULL, "the parent %lu is not there", parent);
    }
}

static void check_names(const struct examination *examination)
{
    for (size_t i = 0; i < examination->count; i++) {
        const struct seen *seen = &examination->records[i];
        bool fixed = seen->id == STORE_ROOT_ID || seen->id == STORE_STAGING_ID;
        sound(seen->record.nlink == seen->names + fixed, "record %lu: %u links, %lu names",
              seen->id, seen->record.nlink, seen->names);
        sound(seen->orphan == (seen->record.nlink == 0), "record %lu: orphan or not", seen->id);
        if (S_ISDIR(seen->record.mode) && seen->record.nlink > 0)
            check_way_up(examination, seen);
    }
}

/* ---------------------------------------------------------------- content -- */

static void check_packed(const struct examination *examination, const struct seen *seen,
                         const MDB_val *v)
{
    size_t size = seen->record.size;
    sound(v->mv_size >= size && v->mv_size <= examination->store->page_size - 16,
          "content %lu: %zu bytes packed", seen->record.link, v->mv_size);
    sound(is_zero((char *)v->mv_data + size, v->mv_size - size), "content %lu: padding",
          seen->record.link);
}

/* Returns the payload. */
static const char *check_extent(const struct examination *examination, const struct seen *seen,
                                uint64_t offset, const MDB_val *v, size_t *length)
{
    size_t page = examination->store->page_size, front = page - 16;
    struct layout_extent header;
    struct layout_extent_front whole;
    sound(v->mv_size > front && (v->mv_size - front) % page == 0, "content %lu at %lu: %zu bytes",
          seen->record.link, offset, v->mv_size);
    memcpy(&header, v->mv_data, sizeof(header));
    memcpy(&whole, v->mv_data, sizeof(whole));
    const char *payload = (char *)v->mv_data + front;
    size_t padded = v->mv_size - front;
    size_t piece = layout_piece(header.length);
    sound(header.content == seen->record.link && header.offset == offset &&
              header.pieces == (header.length > piece ? (header.length + piece - 1) / piece : 0),
          "content %lu at %lu: header", seen->record.link, offset);
    for (size_t i = 0; i < header.pieces; i++) {
        size_t end = (i + 1) * piece < header.length ? (i + 1) * piece : header.length;
        uint64_t hash = htobe64(XXH3_64bits(payload + i * piece, end - i * piece));
        sound(memcmp(&hash, whole.pieces[i], sizeof(hash)) == 0, "content %lu at %lu: piece %zu",
              seen->record.link, offset, i);
    }
    size_t used = sizeof(header) + 8 * (size_t)header.pieces;
    sound(header.length <= padded && padded - header.length < page, "content %lu at %lu: length %u",
          seen->record.link, offset, header.length);
    sound(has_hash(header.hash, payload, header.length), "content %lu at %lu: hash",
          seen->record.link, offset);
    sound(is_zero(payload + header.length, padded - header.length) &&
              is_zero((char *)v->mv_data + used, front - used),
          "content %lu at %lu: padding", seen->record.link, offset);
    off_t place = env_offset(examination->store->env, examination->view.txn, v->mv_data);
    sound((place + (off_t)front) % (off_t)page == 0, "content %lu at %lu lies at %ld",
          seen->record.link, offset, (long)place);
    *length = header.length;
    return payload;
}

static void check_content_entry(const struct examination *examination, const struct seen *seen)
{
    struct layout_content_key key = {.size = htobe64(seen->record.size),
                                     .content = htobe64(seen->record.link)};
    memcpy(key.hash, seen->record.hash, sizeof(key.hash));
    MDB_val k = {sizeof(key), &key}, v;
    struct layout_content content;
    sound(mdb_get(examination->view.txn, examination->store->tables.contents, &k, &v) == 0 &&
              v.mv_size == sizeof(content),
          "content %lu is not in its table", seen->record.link);
    memcpy(&content, v.mv_data, sizeof(content));
    sound(content.references == 1 && content.reserved == 0, "content %lu: references",
          seen->record.link);
}

/* Returns the number of its extents. */
static uint64_t check_content(const struct examination *examination, const struct seen *seen)
{
    bool packed = seen->record.size <= examination->store->page_size - 16;
    MDB_cursor *extents;
    XXH3_state_t *hash = XXH3_createState();
    XXH3_128bits_reset(hash);
    check_content_entry(examination, seen);
    assert_int_equal(
        mdb_cursor_open(examination->view.txn, examination->store->tables.extents, &extents), 0);
    uint64_t offset = 0, n = 0;
    for (; offset < seen->record.size; n++) {
        struct layout_extent_key key = {htobe64(seen->record.link), htobe64(offset)};
        MDB_val k = {sizeof(key), &key}, v;
        size_t length = seen->record.size;
        sound(mdb_cursor_get(extents, &k, &v, MDB_SET) == 0, "content %lu: nothing at %lu",
              seen->record.link, offset);
        const char *payload = v.mv_data;
        if (packed)
            check_packed(examination, seen, &v);
        else
            payload = check_extent(examination, seen, offset, &v, &length);
        XXH3_128bits_update(hash, payload, length);
        offset += length;
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash));
    sound(offset == seen->record.size &&
              memcmp(canonical.digest, seen->record.hash, sizeof(canonical.digest)) == 0,
          "content %lu: hash of the whole", seen->record.link);
    XXH3_freeState(hash);
    mdb_cursor_close(extents);
    return n;
}

static void check_contents(struct examination *examination)
{
    uint64_t contents = 0, extents = 0;
    for (size_t i = 0; i < examination->count; i++)
        if (examination->records[i].record.place == LAYOUT_EXTENTS) {
            extents += check_content(examination, &examination->records[i]);
            contents++;
        }
    MDB_stat stat;
    mdb_stat(examination->view.txn, examination->store->tables.contents, &stat);
    sound(stat.ms_entries == contents, "%zu contents, %lu in records", stat.ms_entries, contents);
    mdb_stat(examination->view.txn, examination->store->tables.extents, &stat);
    /* Half-written contents are orphans, and have extents that no record knows. */
    sound(stat.ms_entries == extents ||
              (stat.ms_entries > extents && examination->found.orphans > 0),
          "%zu extents, %lu in records", stat.ms_entries, extents);
    examination->found.contents = contents;
    examination->found.extents = stat.ms_entries;
}

/* ------------------------------------------------------------- host files -- */

static void check_host_files(struct examination *examination)
{
    if (examination->store->staging_fd < 0)
        return;
    int fd = openat(examination->store->staging_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        const struct seen *seen = find(examination, strtoull(entry->d_name, NULL, 16));
        sound(seen != NULL && seen->record.place == LAYOUT_STAGED, "host file %s is of no record",
              entry->d_name);
        examination->found.staged_files++;
    }
    closedir(dir);
}

struct examined examine(struct store *store)
{
    struct examination examination = {.store = store};
    assert_int_equal(store_sync(store), 0);
    assert_int_equal(view_open_committed(store, &examination.view), 0);
    MDB_val k = {strlen(LAYOUT_META_NEXT_ID), (void *)LAYOUT_META_NEXT_ID}, v;
    assert_int_equal(mdb_get(examination.view.txn, store->tables.meta, &k, &v), 0);
    assert_int_equal(v.mv_size, sizeof(examination.next_id));
    memcpy(&examination.next_id, v.mv_data, sizeof(examination.next_id));

    examination.found.records = walk(&examination, store->tables.records, note_record);
    examination.found.entries = walk(&examination, store->tables.entries, check_entry);
    examination.found.orphans = walk(&examination, store->tables.orphans, check_orphan);
    check_names(&examination);
    check_contents(&examination);
    check_host_files(&examination);
    view_close(&examination.view);
    free(examination.records);
    return examination.found;
}
