/* SPDX-License-Identifier: BSD-2-Clause */
#include "reap.h"

#include <stdatomic.h>

#include "extent.h"
#include "keeper.h"
#include "lease.h"
#include "orphan.h"
#include "pending.h"
#include "record.h"
#include "staging.h"

/* Orphans to remove in one transaction, if they are small. */
#define REAP_BATCH 64

/* Orphans to look at in one transaction. */
#define SWEEP_STEPS 1024

/* Its content, if it is in extents, is an orphan in its place. */
static int remove_record(struct store *store, struct view *view, uint64_t id,
                         const struct layout_record *record)
{
    int r = 0;
    if (record->place == LAYOUT_EXTENTS) {
        r = content_leave(store, view, record->link, record->size, record->hash);
        if (r == 0 || r == -ENOENT)
            r = orphan_add(store, view, record->link, LAYOUT_ORPHAN_CONTENT);
    }
    if (r == 0)
        r = record_remove(store, view, id);
    return r < 0 ? r : orphan_remove(store, view, id);
}

/* ------------------------------------------------------------------- contents -- */

struct clearing {
    struct store *store;
    const uint64_t *contents;
    size_t count;
    size_t done; /* out: so many of them have no extents left */
};

static int clear(struct view *view, void *arg)
{
    struct clearing *clearing = arg;
    for (clearing->done = 0; clearing->done < clearing->count; clearing->done++) {
        uint64_t content = clearing->contents[clearing->done];
        int r = content_clear(clearing->store, view, content);
        if (r == 1) /* it takes another transaction */
            return 0;
        if (r == 0)
            r = orphan_remove(clearing->store, view, content);
        if (r < 0)
            return r;
    }
    return 0;
}

static int clear_contents(struct store *store, const uint64_t *contents, size_t count)
{
    struct clearing clearing = {store, contents, count, 0};
    int r = 0;
    while (r == 0 && clearing.count > 0) {
        r = store_transact(store, clear, &clearing, REAP_BATCH * store->page_size);
        clearing.contents += clearing.done;
        clearing.count -= clearing.done;
    }
    return r;
}

/* -------------------------------------------------------------------- records -- */

struct batch {
    struct store *store;
    const uint64_t *ids;
    size_t count;

    /* Out: */
    uint64_t contents[REAP_BATCH]; /* those of them that are no records */
    size_t content_count;
};

/* A sealed file whose bytes are being brought into the tables. */
static bool is_being_committed(struct store *store, uint64_t id, const struct layout_record *record)
{
    uint64_t big = htobe64(id);
    const MDB_val key = {sizeof(big), &big};
    return (record->flags & RECORD_FINAL) &&
           pending_is_frozen(store->pending, store->tables.records, &key);
}

static int remove_orphan(struct batch *batch, struct view *view, uint64_t id)
{
    struct store *store = batch->store;
    struct layout_record record;
    int why = orphan_get(store, view, id);
    if (why <= 0 || leases_held(store->leases, id))
        return why < 0 ? why : 0;
    if (why == LAYOUT_ORPHAN_CONTENT) {
        batch->contents[batch->content_count++] = id;
        return 0;
    }
    int r = record_get(store, view, id, &record, NULL);
    if (r < 0)
        return r;
    if (is_being_committed(store, id, &record))
        return 0; /* its turn comes again when it is: commit_clean() */
    if (record.flags & RECORD_FINAL)
        atomic_fetch_sub(&store->promised, content_cost(store, record.size));
    return remove_record(store, view, id, &record);
}

static int remove_batch(struct view *view, void *arg)
{
    struct batch *batch = arg;
    int r = 0;
    batch->content_count = 0;
    for (size_t i = 0; i < batch->count && r == 0; i++)
        r = remove_orphan(batch, view, batch->ids[i]);
    return r;
}

/* Those in memory; host files go with the commit. */
static void drop_bytes(struct store *store, const uint64_t *ids, size_t count)
{
    cleanup_view struct view view = {0};
    if (view_open(store, &view) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct layout_record record;
        if (record_get(store, &view, ids[i], &record, NULL) == -ENOENT)
            staging_drop(store, ids[i]);
    }
}

int reap(struct store *store, const uint64_t *ids, size_t count)
{
    while (count > 0) {
        size_t some = count < REAP_BATCH ? count : REAP_BATCH;
        struct batch batch = {.store = store, .ids = ids, .count = some};
        int r = store_change(store, remove_batch, &batch);
        if (r == 0)
            drop_bytes(store, ids, some);
        if (r == 0)
            r = clear_contents(store, batch.contents, batch.content_count);
        if (r < 0)
            return r;
        ids += some;
        count -= some;
    }
    return 0;
}

int reap_at_once(struct store *store, struct view *view, uint64_t id)
{
    struct layout_record record;
    int r = record_get(store, view, id, &record, NULL);
    if (r < 0)
        return r;
    if (record.place == LAYOUT_STAGED || leases_held(store->leases, id))
        return 1;
    r = remove_record(store, view, id, &record);
    if (r < 0 || record.place != LAYOUT_EXTENTS)
        return r;
    r = content_clear(store, view, record.link);
    return r != 0 ? r < 0 ? r : 0 : orphan_remove(store, view, record.link);
}

void reap_unless_held(struct store *store, uint64_t id)
{
    if (!leases_held(store->leases, id))
        keeper_reap(store->keeper, id);
}

/* Whether an orphan may be removed while others are being made. */
static bool is_settled(struct store *store, struct view *view, uint64_t id, enum layout_orphan why)
{
    struct layout_record record;
    return why == LAYOUT_ORPHAN_RECORD && !leases_held(store->leases, id) &&
           record_get(store, view, id, &record, NULL) == 0 && !record_is_open(&record);
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
    cleanup_view struct view view = {0};
    int r = view_open_committed(sweep->store, &view);
    sweep->count = 0;
    for (unsigned n = 0; r == 0 && n < SWEEP_STEPS && sweep->count < REAP_BATCH; n++) {
        uint64_t id;
        enum layout_orphan why;
        r = orphan_next(sweep->store, &view, sweep->from, &id, &why);
        if (r < 0)
            return r == -ENOENT ? 1 : r;
        sweep->from = id + 1;
        if (!sweep->settled || is_settled(sweep->store, &view, id, why))
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
    int r = 0;
    /* Once for the records, and once for the contents that they leave. */
    for (int pass = 0; pass < 2 && r == 0; pass++) {
        r = store_sync(store);
        if (r == 0)
            r = reap_table(store, false);
    }
    return r;
}

int reap_sealed(struct store *store)
{
    return reap_table(store, true);
}
