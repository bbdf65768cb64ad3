/* SPDX-License-Identifier: BSD-2-Clause */
/* recover.c: put in order what a killed process left. */
#include "reap.h"
#include "record.h"
#include "staging.h"
#include "sweep.h"

static int recover_staged(struct store *store, uint64_t id)
{
    struct layout_record record;
    {
        cleanup_view struct view view = {0};
        int r = view_open(store, &view);
        if (r == 0)
            r = record_get(store, &view, id, &record, NULL);
        if (r < 0 && r != -ENOENT)
            return r;
        if (r == -ENOENT || record.place != LAYOUT_STAGED)
            return staging_remove(store, id);
    }
    return record.flags & LAYOUT_HELD ? 0 : store_seal(store, id);
}

int store_recover(struct store *store)
{
    if (store->read_only)
        return -EROFS;
    cleanup_free uint64_t *ids = NULL;
    size_t count = 0;
    int r = reap_all(store);
    if (r == 0)
        r = sweep_resume(store);
    if (r == 0)
        r = staging_list(store, &ids, &count);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        r = recover_staged(store, ids[i]);
        if (r < 0)
            store_warn(store, "staging file %016llx stays unsealed: %s", (unsigned long long)ids[i],
                       strerror(-r));
    }
    return store_sync(store);
}
