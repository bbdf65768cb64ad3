/* SPDX-License-Identifier: BSD-2-Clause */
#include "scan.h"

/* Entries in one transaction: a millisecond or so. */
#define STEPS 1024

#define GIVE_BACK_EVERY 16 /* transactions: asking takes longer than many of them */

void scan_start(struct scan *scan, struct store *store, MDB_dbi table)
{
    *scan = (struct scan){.store = store, .table = table};
}

void scan_pause(struct scan *scan)
{
    if (scan->cursor != NULL)
        mdb_cursor_close(scan->cursor);
    scan->cursor = NULL;
    if (scan->view.txn != NULL && scan->at != NULL && scan->pauses++ % GIVE_BACK_EVERY == 0)
        memory_give_back(&scan->memory, scan->at);
    scan->at = NULL;
    view_close(&scan->view);
}

/* Open a transaction and stand on the first entry behind the present key. */
static int resume(struct scan *scan, MDB_val *key, MDB_val *value)
{
    int r = view_open_committed(scan->store, &scan->view);
    if (r < 0)
        return r;
    int rc = mdb_cursor_open(scan->view.txn, scan->table, &scan->cursor);
    if (rc != 0) {
        scan->cursor = NULL;
        return lmdb_error(rc);
    }
    scan->steps = STEPS;
    if (scan->key_size == 0)
        return lmdb_error(guard_cursor_get(scan->cursor, key, value, MDB_FIRST));
    *key = (MDB_val){scan->key_size, scan->key};
    rc = guard_cursor_get(scan->cursor, key, value, MDB_SET_RANGE);
    if (rc == 0 && key->mv_size == scan->key_size &&
        memcmp(key->mv_data, scan->key, scan->key_size) == 0)
        rc = guard_cursor_get(scan->cursor, key, value, MDB_NEXT);
    return lmdb_error(rc);
}

/* In a damaged tree the same keys could come again and again. */
static bool goes_on(const struct scan *scan, const MDB_val *key)
{
    size_t common = key->mv_size < scan->key_size ? key->mv_size : scan->key_size;
    int order = memcmp(key->mv_data, scan->key, common);
    return order > 0 || (order == 0 && key->mv_size > scan->key_size);
}

int scan_next(struct scan *scan, MDB_val *key, MDB_val *value)
{
    if (scan->steps == 0)
        scan_pause(scan);
    int r = scan->cursor == NULL ? resume(scan, key, value)
                                 : lmdb_error(guard_cursor_get(scan->cursor, key, value, MDB_NEXT));
    if (r < 0) {
        scan_pause(scan);
        return r == -ENOENT ? 0 : r;
    }
    scan->steps--;
    if (key->mv_size == 0 || key->mv_size > sizeof(scan->key) || !goes_on(scan, key))
        return -EIO;
    memcpy(scan->key, key->mv_data, key->mv_size);
    scan->key_size = key->mv_size;
    scan->at = value->mv_data;
    return 1;
}
