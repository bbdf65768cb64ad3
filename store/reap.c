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

/* Orphans to look at in one transaction. */
#define SWEEP_STEPS 1024

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

/* Whether an orphan may be removed while others are being made. */
static bool is_settled(struct store *store, MDB_txn *txn, uint64_t id, enum layout_orphan why)
{
    struct layout_record record;
    return why == LAYOUT_ORPHAN_RECORD && !leases_held(store->leases, id) &&
           record_get(store, txn, id, &record, NULL) == 0 && record.place != LAYOUT_STAGED;
}

struct sweep {
    struct store *store;
    bool settled; /* only such */
    uint64_t from;
    uint64_t ids[REAP_BATCH];
    size_t count;
};

/* Fill sweep->ids from sweep->from on, in one transaction that is short. 1 at the end of the table.
 */
static int collect(struct sweep *sweep)
{
    cleanup_read struct env_read read = {0};
    int r = env_read(sweep->store->env, &read);
    sweep->count = 0;
    for (unsigned n = 0; r == 0 && n < SWEEP_STEPS && sweep->count < REAP_BATCH; n++) {
        uint64_t id;
        enum layout_orphan why;
        r = orphan_next(sweep->store, read.txn, sweep->from, &id, &why);
        if (r < 0)
            return r == -ENOENT ? 1 : r;
        sweep->from = id + 1;
        if (!sweep->settled || is_settled(sweep->store, read.txn, id, why))
            sweep->ids[sweep->count++] = id;
    }
    return r;
}

static int reap_table(struct store *store, bool settled)
{
    struct sweep sweep = {.store = store, .settled = settled};
    int end = 0;
    while (end == 0) {
        end = collect(&sweep);
        int r = end < 0 ? end : reap(store, sweep.ids, sweep.count);
        if (r < 0)
            return r;
    }
    return 0;
}

int reap_all(struct store *store)
{
    return reap_table(store, false);
}

int reap_sealed(struct store *store)
{
    return reap_table(store, true);
}
