/* SPDX-License-Identifier: BSD-2-Clause */
#include "orphan.h"

int orphan_add(struct store *store, struct view *view, uint64_t id, enum layout_orphan why)
{
    uint64_t big = htobe64(id);
    uint8_t reason = (uint8_t)why;
    MDB_val k = {sizeof(big), &big};
    void *value;
    int r = view_put(view, store->tables.orphans, &k, sizeof(reason), &value);
    if (r == 0)
        memcpy(value, &reason, sizeof(reason));
    return r;
}

int orphan_remove(struct store *store, struct view *view, uint64_t id)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big};
    int r = view_remove(view, store->tables.orphans, &k);
    return r == -ENOENT ? 0 : r;
}

int orphan_get(struct store *store, struct view *view, uint64_t id)
{
    uint64_t big = htobe64(id);
    MDB_val k = {sizeof(big), &big}, v;
    int r = view_get(view, store->tables.orphans, &k, &v);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    return v.mv_size == 1 ? *(uint8_t *)v.mv_data : -EIO;
}

int orphan_next(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                enum layout_orphan *why)
{
    MDB_cursor *orphans;
    int rc = mdb_cursor_open(view->txn, store->tables.orphans, &orphans);
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
