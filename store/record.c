/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#include <sys/stat.h>

static size_t payload_size(const struct layout_record *record)
{
    bool has = record->place == LAYOUT_INLINE && !S_ISDIR(record->mode);
    return has ? record->size : 0;
}

static bool makes_sense(const struct layout_record *record, size_t size)
{
    bool type = S_ISREG(record->mode) || S_ISDIR(record->mode) || S_ISLNK(record->mode);
    return type && record->place <= LAYOUT_STAGED && record->size <= (uint64_t)STORE_FILE_MAX &&
           size == sizeof(*record) + payload_size(record);
}

int record_get(struct store *store, struct view *view, uint64_t id, struct layout_record *record,
               MDB_val *payload)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big}, v;
    int r = view_get(view, store->tables.records, &k, &v);
    if (r < 0)
        return r;
    if (v.mv_size < sizeof(*record))
        return -EIO;
    memcpy(record, v.mv_data, sizeof(*record));
    if (!makes_sense(record, v.mv_size))
        return -EIO;
    if (payload != NULL) {
        payload->mv_size = v.mv_size - sizeof(*record);
        payload->mv_data = (char *)v.mv_data + sizeof(*record);
    }
    return 0;
}

int record_look(struct store *store, uint64_t id, struct layout_record *record)
{
    cleanup_view struct view view = {0};
    int r = view_open(store, &view);
    return r < 0 ? r : record_get(store, &view, id, record, NULL);
}

int record_next(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                struct layout_record *record)
{
    MDB_cursor *records;
    int rc = mdb_cursor_open(view->txn, store->tables.records, &records);
    if (rc != 0)
        return lmdb_error(rc);
    uint64_t big = htobe64(from);
    MDB_val k = {sizeof(big), &big}, v;
    rc = guard_cursor_get(records, &k, &v, MDB_SET_RANGE);
    bool sound = rc == 0 && k.mv_size == sizeof(big);
    if (sound)
        memcpy(&big, k.mv_data, sizeof(big));
    mdb_cursor_close(records);
    if (rc != 0)
        return lmdb_error(rc);
    *id = be64toh(big);
    return sound ? record_get(store, view, *id, record, NULL) : -EIO;
}

static int put(struct store *store, struct view *view, uint64_t id,
               const struct layout_record *record, const void *payload, view_room_fn *room)
{
    uint64_t big = htobe64(id);
    size_t size = payload_size(record);
    MDB_val k = {sizeof(big), &big};
    void *value;
    int r = room(view, store->tables.records, &k, sizeof(*record) + size, &value);
    if (r < 0)
        return r;
    memcpy(value, record, sizeof(*record));
    if (size > 0)
        memcpy((char *)value + sizeof(*record), payload, size);
    return 0;
}

int record_add(struct store *store, struct view *view, uint64_t id,
               const struct layout_record *record, const void *payload)
{
    /* Ids only grow, so a new record is nearly always the last: appending fills pages whole. */
    return put(store, view, id, record, payload, view_append);
}

int record_replace(struct store *store, struct view *view, uint64_t id,
                   const struct layout_record *record, const void *payload)
{
    return put(store, view, id, record, payload, view_put);
}

int record_update(struct store *store, struct view *view, uint64_t id,
                  const struct layout_record *record)
{
    struct layout_record old;
    MDB_val payload;
    int r = record_get(store, view, id, &old, &payload);
    if (r < 0)
        return r;
    /* The payload lies in the page that is about to be rewritten: copy it out first. */
    char copy[LAYOUT_INLINE_LIMIT];
    if (payload.mv_size > sizeof(copy))
        return -EIO;
    memcpy(copy, payload.mv_data, payload.mv_size);
    return put(store, view, id, record, copy, view_put);
}

int record_remove(struct store *store, struct view *view, uint64_t id)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big};
    return view_remove(view, store->tables.records, &k);
}

struct layout_time layout_time(struct timespec time)
{
    return (struct layout_time){time.tv_sec, (uint32_t)time.tv_nsec};
}

struct timespec layout_timespec(struct layout_time time)
{
    return (struct timespec){.tv_sec = time.seconds, .tv_nsec = time.nanoseconds};
}

struct layout_time layout_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return layout_time(now);
}

/* What the payload takes beyond the record itself, in blocks of 512 bytes. */
static uint64_t blocks(const struct store *store, const struct layout_record *record)
{
    uint64_t bytes = record->place != LAYOUT_INLINE ? (record->size + store->page_size - 1) /
                                                          store->page_size * store->page_size
                                                    : sizeof(*record) + payload_size(record);
    return (bytes + 511) / 512;
}

void record_attr(const struct store *store, uint64_t id, const struct layout_record *record,
                 struct store_attr *attr)
{
    bool held = (record->flags & LAYOUT_HELD) != 0;
    bool sealed = S_ISREG(record->mode) && !record_is_open(record) && !held;
    bool writable = !S_ISREG(record->mode) || !sealed || record->size == 0;
    *attr = (struct store_attr){
        .id = id,
        .mode = writable ? record->mode : record->mode & ~(uint32_t)0222,
        .full_mode = record->mode,
        .uid = record->uid,
        .gid = record->gid,
        .nlink = record->nlink,
        .size = record->size,
        .blocks = blocks(store, record),
        .atime = layout_timespec(record->atime),
        .mtime = layout_timespec(record->mtime),
        .ctime = layout_timespec(record->ctime),
        .btime = layout_timespec(record->btime),
        .parent = S_ISDIR(record->mode) ? record->link : 0,
        .sealed = sealed,
        .hashed = sealed && record->place != LAYOUT_STAGED,
        .held = held,
        .open = S_ISREG(record->mode) && record_is_open(record),
    };
    memcpy(attr->hash, record->hash, sizeof(attr->hash));
}
