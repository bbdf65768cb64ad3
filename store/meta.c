/* SPDX-License-Identifier: BSD-2-Clause */
#include "meta.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>

static int get(struct store *store, struct view *view, const char *name, void *value, size_t size)
{
    MDB_val key = {strlen(name), (void *)name};
    MDB_val found;
    int r = view_get(view, store->tables.meta, &key, &found);
    if (r < 0)
        return r;
    if (found.mv_size < size)
        return -EINVAL;
    memcpy(value, found.mv_data, size);
    return 0;
}

static int put(struct store *store, struct view *view, const char *name, const void *value,
               size_t size)
{
    MDB_val key = {strlen(name), (void *)name};
    void *room;
    int r = view_put(view, store->tables.meta, &key, size, &room);
    if (r == 0)
        memcpy(room, value, size);
    return r;
}

int meta_create(struct store *store, struct view *view)
{
    struct layout_format format = {
        .magic = LAYOUT_MAGIC,
        .version = LAYOUT_VERSION,
        .page_size = (uint32_t)store->page_size,
        .created = time(NULL),
    };
    if (getrandom(format.uuid, sizeof(format.uuid), 0) < 0)
        return -errno;

    uint64_t next_id = STORE_FIRST_ID;
    int r = put(store, view, LAYOUT_META_FORMAT, &format, sizeof(format));
    return r < 0 ? r : put(store, view, LAYOUT_META_NEXT_ID, &next_id, sizeof(next_id));
}

int meta_format(struct store *store, struct view *view, struct layout_format *format)
{
    return get(store, view, LAYOUT_META_FORMAT, format, sizeof(*format));
}

int meta_next_id(struct store *store, struct view *view, uint64_t *id)
{
    int r = get(store, view, LAYOUT_META_NEXT_ID, id, sizeof(*id));
    return r == -ENOENT || r == -EINVAL ? -EIO : r;
}

int meta_load(struct store *store, struct view *view)
{
    uint64_t next;
    int r = meta_next_id(store, view, &next);
    if (r == 0)
        atomic_store(&store->next_id, next);
    return r;
}

int meta_save(struct view *view, void *arg)
{
    struct store *store = arg;
    uint64_t next = atomic_load(&store->next_id), saved;
    int r = meta_next_id(store, view, &saved);
    if (r == 0 && next != saved)
        r = put(store, view, LAYOUT_META_NEXT_ID, &next, sizeof(next));
    return r;
}

uint64_t meta_new_ids(struct store *store, uint64_t count)
{
    return atomic_fetch_add(&store->next_id, count);
}

int meta_renew(struct view *view, void *arg)
{
    struct store *store = arg;
    uint64_t next = atomic_load(&store->next_id);
    return put(store, view, LAYOUT_META_NEXT_ID, &next, sizeof(next));
}

/* --------------------------------------------------------------- trees to sweep -- */

struct mark {
    char name[sizeof(LAYOUT_META_SWEEP) + 16];
};

static struct mark mark_of(uint64_t id)
{
    struct mark mark;
    snprintf(mark.name, sizeof(mark.name), LAYOUT_META_SWEEP "%016" PRIx64, id);
    return mark;
}

int meta_mark(struct store *store, struct view *view, uint64_t id, uint64_t limit)
{
    return put(store, view, mark_of(id).name, &limit, sizeof(limit));
}

int meta_unmark(struct store *store, struct view *view, uint64_t id)
{
    struct mark mark = mark_of(id);
    MDB_val key = {strlen(mark.name), mark.name};
    return view_remove(view, store->tables.meta, &key);
}

int meta_next_mark(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                   uint64_t *limit)
{
    struct mark mark = mark_of(from);
    const MDB_val first = {strlen(mark.name), mark.name};
    const size_t prefix = strlen(LAYOUT_META_SWEEP);
    struct view_cursor cursor;
    MDB_val key, value;
    int r = view_seek(view, store->tables.meta, &first, &cursor, &key, &value);
    if (r == 0 && (key.mv_size != first.mv_size || value.mv_size < sizeof(*limit) ||
                   memcmp(key.mv_data, LAYOUT_META_SWEEP, prefix) != 0))
        r = -ENOENT;
    if (r == 0) {
        memcpy(mark.name, key.mv_data, key.mv_size);
        *id = strtoull(mark.name + prefix, NULL, 16);
        memcpy(limit, value.mv_data, sizeof(*limit));
    }
    view_cursor_close(&cursor);
    return r;
}
