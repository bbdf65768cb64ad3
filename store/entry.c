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

int entry_get(struct store *store, MDB_txn *txn, uint64_t parent, const char *name,
              struct entry *entry)
{
    union key key;
    MDB_val k, v;
    int r = make_key(parent, name, &key, &k);
    if (r < 0)
        return r;
    int rc = guard_get(txn, store->tables.entries, &k, &v);
    return rc != 0 ? lmdb_error(rc) : decode(&v, entry);
}

static int put(struct store *store, MDB_txn *txn, uint64_t parent, const char *name,
               const struct entry *entry, unsigned flags)
{
    union key key;
    MDB_val k;
    int r = make_key(parent, name, &key, &k);
    if (r < 0)
        return r;
    struct layout_entry value = {entry->id, (uint8_t)((entry->type & S_IFMT) >> 12)};
    MDB_val v = {sizeof(value), &value};
    return lmdb_error(mdb_put(txn, store->tables.entries, &k, &v, flags));
}

int entry_put(struct store *store, MDB_txn *txn, uint64_t parent, const char *name,
              const struct entry *entry)
{
    return put(store, txn, parent, name, entry, 0);
}

int entry_add(struct store *store, MDB_txn *txn, uint64_t parent, const char *name,
              const struct entry *entry)
{
    int r = put(store, txn, parent, name, entry, MDB_APPEND);
    return r == -EEXIST ? put(store, txn, parent, name, entry, MDB_NOOVERWRITE) : r;
}

int entry_remove(struct store *store, MDB_txn *txn, uint64_t parent, const char *name)
{
    union key key;
    MDB_val k;
    int r = make_key(parent, name, &key, &k);
    return r < 0 ? r : lmdb_error(mdb_del(txn, store->tables.entries, &k, NULL));
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

int entry_list(struct store *store, MDB_txn *txn, uint64_t parent, uint64_t cursor, entry_fn *each,
               void *arg)
{
    MDB_cursor *entries;
    int rc = mdb_cursor_open(txn, store->tables.entries, &entries);
    if (rc != 0)
        return lmdb_error(rc);

    struct layout_entry_key fixed = {htobe64(parent), htobe64(cursor)};
    MDB_val k = {sizeof(fixed), &fixed}, v;
    int r = 0;
    rc = guard_cursor_get(entries, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && key_of(&k, parent, &fixed)) {
        char name[STORE_NAME_MAX + 1] = {0};
        struct entry entry;
        memcpy(name, (char *)k.mv_data + sizeof(fixed), k.mv_size - sizeof(fixed));
        r = decode(&v, &entry);
        if (r < 0)
            break;
        rc = guard_cursor_get(entries, &k, &v, MDB_NEXT);
        /* Two names can share a place (one chance in 2^63 a pair): who stops between them gets
         * the first one again, rather than never the second. */
        bool shared = rc == 0 && same_place(&k, &fixed);
        if (!each(arg, name, &entry, be64toh(fixed.place) + (shared ? 0 : 1)))
            rc = MDB_NOTFOUND;
    }
    mdb_cursor_close(entries);
    if (r < 0)
        return r;
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : lmdb_error(rc);
}

static bool note_one(void *arg, const char *name, const struct entry *entry, uint64_t next)
{
    (void)name, (void)entry, (void)next;
    *(bool *)arg = false;
    return false;
}

int entry_none(struct store *store, MDB_txn *txn, uint64_t parent)
{
    bool none = true;
    int r = entry_list(store, txn, parent, 0, note_one, &none);
    return r < 0 ? r : none;
}
