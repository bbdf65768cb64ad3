/* SPDX-License-Identifier: BSD-2-Clause */
#include "orphan.h"

int orphan_add(struct store *store, MDB_txn *txn, uint64_t id, enum layout_orphan why)
{
    uint64_t big = htobe64(id);
    uint8_t reason = (uint8_t)why;
    MDB_val k = {sizeof(big), &big}, v = {sizeof(reason), &reason};
    return lmdb_error(mdb_put(txn, store->tables.orphans, &k, &v, 0));
}

int orphan_remove(struct store *store, MDB_txn *txn, uint64_t id)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big};
    int r = lmdb_error(mdb_del(txn, store->tables.orphans, &k, NULL));
    return r == -ENOENT ? 0 : r;
}

int orphan_get(struct store *store, MDB_txn *txn, uint64_t id)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big}, v;
    int rc = guard_get(txn, store->tables.orphans, &k, &v);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc != 0)
        return lmdb_error(rc);
    return v.mv_size == 1 ? *(uint8_t *)v.mv_data : -EIO;
}

int orphan_next(struct store *store, MDB_txn *txn, uint64_t from, uint64_t *id,
                enum layout_orphan *why)
{
    MDB_cursor *orphans;
    int rc = mdb_cursor_open(txn, store->tables.orphans, &orphans);
    if (rc != 0)
        return lmdb_error(rc);
    uint64_t big = htobe64(from);
    MDB_val k = {sizeof(big), &big}, v;
    rc = guard_cursor_get(orphans, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && (k.mv_size != sizeof(big) || v.mv_size != 1))
        rc = MDB_CORRUPTED;
    if (rc == 0) {
        memcpy(&big, k.mv_data, sizeof(big));
        *id = be64toh(big);
        *why = *(uint8_t *)v.mv_data;
    }
    mdb_cursor_close(orphans);
    return lmdb_error(rc);
}
