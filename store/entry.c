/* SPDX-License-Identifier: BSD-2-Clause */
#include "entry.h"

#include <sys/stat.h>
#include <xxhash.h>

#define PLACE_MAX (((uint64_t)1 << 63) - 2) /* so that place + 1 is a valid off_t */

union key {
    struct layout_entry_key fixed;
    char bytes[sizeof(struct layout_entry_key) + STORE_NAME_MAX];
};

uint64_t entry_place(const char *name, size_t length)
{
    uint64_t place = XXH3_64bits(name, length) >> 1;
    if (place < STORE_CURSOR_MIN)
        return STORE_CURSOR_MIN;
    return place > PLACE_MAX ? PLACE_MAX : place;
}

static int make_key(uint64_t parent, const char *name, union key *key, MDB_val *value)
{
    size_t length = strlen(name);
    if (length == 0)
        return -ENOENT;
    if (length > STORE_NAME_MAX)
        return -ENAMETOOLONG;
    key->fixed.parent = htobe64(parent);
    key->fixed.place = htobe64(entry_place(name, length));
    memcpy(key->fixed.name, name, length);
    value->mv_size = sizeof(key->fixed) + length;
    value->mv_data = key;
    return 0;
}

static int decode(const MDB_val *value, struct entry *entry)
{
    struct layout_entry found;
    if (value->mv_size != sizeof(found))
        return -EIO;
    memcpy(&found, value->mv_data, sizeof(found));
    entry->id = found.id;
    entry->type = (mode_t)found.type << 12;
    return 0;
}

int entry_get(struct store *store, struct view *view, uint64_t parent, const char *name,
              struct entry *entry)
{
    union key key;
    MDB_val k, v;
    int r = make_key(parent, name, &key, &k);
    if (r < 0)
        return r;
    r = view_get(view, store->tables.entries, &k, &v);
    return r < 0 ? r : decode(&v, entry);
}

static int put(struct store *store, struct view *view, uint64_t parent, const char *name,
               const struct entry *entry, view_room_fn *room)
{
    union key key;
    MDB_val k;
    int r = make_key(parent, name, &key, &k);
    if (r < 0)
        return r;
    struct layout_entry value = {entry->id, (uint8_t)((entry->type & S_IFMT) >> 12)};
    void *bytes;
    r = room(view, store->tables.entries, &k, sizeof(value), &bytes);
    if (r == 0)
        memcpy(bytes, &value, sizeof(value));
    return r;
}

int entry_put(struct store *store, struct view *view, uint64_t parent, const char *name,
              const struct entry *entry)
{
    return put(store, view, parent, name, entry, view_put);
}

int entry_add(struct store *store, struct view *view, uint64_t parent, const char *name,
              const struct entry *entry)
{
    return put(store, view, parent, name, entry, view_append);
}

int entry_remove(struct store *store, struct view *view, uint64_t parent, const char *name)
{
    union key key;
    MDB_val k;
    int r = make_key(parent, name, &key, &k);
    return r < 0 ? r : view_remove(view, store->tables.entries, &k);
}

/* The fixed part of a key that belongs to `parent`; false at the end of the directory. */
static bool key_of(const MDB_val *k, uint64_t parent, struct layout_entry_key *fixed)
{
    if (k->mv_size <= sizeof(*fixed) || k->mv_size > sizeof(*fixed) + STORE_NAME_MAX)
        return false;
    memcpy(fixed, k->mv_data, sizeof(*fixed));
    return be64toh(fixed->parent) == parent;
}

static bool same_place(const MDB_val *k, const struct layout_entry_key *fixed)
{
    return k->mv_size > sizeof(*fixed) && memcmp(k->mv_data, fixed, sizeof(*fixed)) == 0;
}

int entry_list(struct store *store, struct view *view, uint64_t parent, uint64_t cursor,
               entry_fn *each, void *arg)
{
    struct view_cursor entries;
    struct layout_entry_key fixed = {htobe64(parent), htobe64(cursor)};
    MDB_val from = {sizeof(fixed), &fixed}, k, v;
    bool more = true;
    int r = view_seek(view, store->tables.entries, &from, &entries, &k, &v);
    while (r == 0 && more && key_of(&k, parent, &fixed)) {
        char name[STORE_NAME_MAX + 1] = {0};
        struct entry entry;
        memcpy(name, (char *)k.mv_data + sizeof(fixed), k.mv_size - sizeof(fixed));
        r = decode(&v, &entry);
        if (r < 0)
            break;
        r = view_next(&entries, &k, &v);
        /* Two names can share a place (one chance in 2^63 a pair): who stops between them gets
         * the first one again, rather than never the second. */
        bool shared = r == 0 && same_place(&k, &fixed);
        more = each(arg, name, &entry, be64toh(fixed.place) + (shared ? 0 : 1));
    }
    view_cursor_close(&entries);
    return !more || r == -ENOENT ? 0 : r;
}

static bool note_one(void *arg, const char *name, const struct entry *entry, uint64_t next)
{
    (void)name, (void)entry, (void)next;
    *(bool *)arg = false;
    return false;
}

int entry_none(struct store *store, struct view *view, uint64_t parent)
{
    bool none = true;
    int r = entry_list(store, view, parent, 0, note_one, &none);
    return r < 0 ? r : none;
}
