/* SPDX-License-Identifier: BSD-2-Clause */
#include "reap.h"

#include "extent.h"
#include "keeper.h"
#include "lease.h"
#include "orphan.h"
#include "record.h"
#include "staging.h"

/* Orphans to remove in one transaction, if they are small. */
#define REAP_BATCH 64

struct batch {
    struct store *store;
    const uint64_t *ids;
    size_t count;
    size_t done; /* out: this many of them are settled */
};

/* 1: its extents don't fit into this transaction, go on in the next one. */
static int remove_record(struct store *store, MDB_txn *txn, uint64_t id)
{
    struct layout_record record;
    int r = record_get(store, txn, id, &record, NULL);
    if (r == 0 && record.place == LAYOUT_EXTENTS)
        r = content_clear(store, txn, record.link);
    if (r == 0 && record.place == LAYOUT_EXTENTS)
        r = content_leave(store, txn, record.link, record.size, record.hash);
    return r != 0 ? r : record_remove(store, txn, id);
}

static int remove_orphan(struct store *store, MDB_txn *txn, uint64_t id)
{
    int why = orphan_get(store, txn, id);
    if (why <= 0 || leases_held(store->leases, id))
        return why < 0 ? why : 0;
    int r =
        why == LAYOUT_ORPHAN_RECORD ? remove_record(store, txn, id) : content_clear(store, txn, id);
    return r != 0 ? r : orphan_remove(store, txn, id);
}

int reap_at_once(struct store *store, MDB_txn *txn, uint64_t id)
{
    struct layout_record record;
    int r = record_get(store, txn, id, &record, NULL);
    if (r < 0)
        return r;
    if (record.place == LAYOUT_STAGED || leases_held(store->leases, id))
        return 1;
    return remove_orphan(store, txn, id);
}

static int remove_batch(MDB_txn *txn, void *arg)
{
    struct batch *batch = arg;
    int r = 0;
    for (batch->done = 0; batch->done < batch->count; batch->done++) {
        r = remove_orphan(batch->store, txn, batch->ids[batch->done]);
        if (r != 0)
            break;
    }
    return r < 0 ? r : 0;
}

/* The host files of those that are gone now. */
static void remove_files(struct store *store, const uint64_t *ids, size_t count)
{
    cleanup_read struct env_read read = {0};
    if (env_read(store->env, &read) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct layout_record record;
        if (record_get(store, read.txn, ids[i], &record, NULL) == -ENOENT)
            (void)staging_remove(store, ids[i]);
    }
}

int reap(struct store *store, const uint64_t *ids, size_t count)
{
    while (count > 0) {
        size_t some = count < REAP_BATCH ? count : REAP_BATCH;
        struct batch batch = {store, ids, some, 0};
        int r = store_change(store, remove_batch, &batch, REAP_BATCH * store->page_size);
        if (r < 0)
            return r;
        remove_files(store, ids, batch.done);
        ids += batch.done;
        count -= batch.done;
    }
    return 0;
}

void reap_unless_held(struct store *store, uint64_t id)
{
    if (!leases_held(store->leases, id))
        keeper_reap(store->keeper, id);
}

int reap_all(struct store *store)
{
    for (uint64_t from = 0;;) {
        uint64_t ids[REAP_BATCH];
        enum layout_orphan why;
        size_t count = 0;
        {
            cleanup_read struct env_read read = {0};
            int r = env_read(store->env, &read);
            while (r == 0 && count < REAP_BATCH) {
                r = orphan_next(store, read.txn, from, &ids[count], &why);
                if (r == 0)
                    from = ids[count++] + 1;
            }
            if (r < 0 && r != -ENOENT)
                return r;
        }
        if (count == 0)
            return 0;
        int r = reap(store, ids, count);
        if (r < 0)
            return r;
    }
}
