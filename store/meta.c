/* SPDX-License-Identifier: BSD-2-Clause */
#include "meta.h"

#include <sys/random.h>

static int get(struct store *store, MDB_txn *txn, const char *name, void *value, size_t size)
{
    MDB_val key = {strlen(name), (void *)name};
    MDB_val found;
    int rc = guard_get(txn, store->tables.meta, &key, &found);
    if (rc != 0)
        return lmdb_error(rc);
    if (found.mv_size < size)
        return -EINVAL;
    memcpy(value, found.mv_data, size);
    return 0;
}

static int put(struct store *store, MDB_txn *txn, const char *name, void *value, size_t size)
{
    MDB_val key = {strlen(name), (void *)name};
    MDB_val data = {size, value};
    return lmdb_error(mdb_put(txn, store->tables.meta, &key, &data, 0));
}

int meta_create(struct store *store, MDB_txn *txn)
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
    int r = put(store, txn, LAYOUT_META_FORMAT, &format, sizeof(format));
    return r < 0 ? r : put(store, txn, LAYOUT_META_NEXT_ID, &next_id, sizeof(next_id));
}

int meta_format(struct store *store, MDB_txn *txn, struct layout_format *format)
{
    return get(store, txn, LAYOUT_META_FORMAT, format, sizeof(*format));
}

int meta_next_id(struct store *store, MDB_txn *txn, uint64_t *id)
{
    int r = get(store, txn, LAYOUT_META_NEXT_ID, id, sizeof(*id));
    return r == -ENOENT || r == -EINVAL ? -EIO : r;
}

int meta_new_ids(struct store *store, MDB_txn *txn, uint64_t count, uint64_t *first)
{
    int r = meta_next_id(store, txn, first);
    uint64_t next = *first + count;
    return r < 0 ? r : put(store, txn, LAYOUT_META_NEXT_ID, &next, sizeof(next));
}

int meta_new_id(struct store *store, MDB_txn *txn, uint64_t *id)
{
    return meta_new_ids(store, txn, 1, id);
}

int meta_renew(struct store *store, MDB_txn *txn)
{
    uint64_t id;
    int r = get(store, txn, LAYOUT_META_NEXT_ID, &id, sizeof(id));
    return r < 0 ? r : put(store, txn, LAYOUT_META_NEXT_ID, &id, sizeof(id));
}
