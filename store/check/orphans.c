/* SPDX-License-Identifier: BSD-2-Clause */
/* orphans.c: what is to be removed is there and has no name. (That every record without a name
 * is here is records.c's part.) */
#include <inttypes.h>
#include <stdio.h>

#include "check.h"
#include "record.h"

/* NULL: nothing is wrong. */
static const char *judge(struct check *check, struct view *view, uint64_t id, const MDB_val *value)
{
    struct layout_record record;
    uint8_t why = value->mv_size == 1 ? *(uint8_t *)value->mv_data : 0;
    if (why != LAYOUT_ORPHAN_RECORD && why != LAYOUT_ORPHAN_CONTENT)
        return "it is in table \"orphans\" for an unknown reason";
    int r = record_get(check->store, view, id, &record, NULL);
    if (why == LAYOUT_ORPHAN_CONTENT)
        return r == -ENOENT ? NULL : "it is a record, but in table \"orphans\" as a content";
    if (r == -ENOENT)
        return "it is in table \"orphans\", but does not exist";
    return NULL; /* that it has no name: records.c */
}

int check_orphans(struct check *check)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.orphans);
    while ((r = check_next(check, &scan, "orphans", &k, &v)) > 0) {
        uint64_t big;
        if (k.mv_size != sizeof(big)) {
            check_problem(check, "data.mdb", "table \"orphans\" has a key of %zu bytes", k.mv_size);
            continue;
        }
        memcpy(&big, k.mv_data, sizeof(big));
        const char *problem = judge(check, &scan.view, be64toh(big), &v);
        if (problem == NULL)
            continue;
        char name[64];
        snprintf(name, sizeof(name), "record %" PRIu64, be64toh(big));
        scan_pause(&scan);
        check_problem(check, name, "%s", problem);
    }
    return r;
}
