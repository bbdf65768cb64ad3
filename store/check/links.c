/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links.c: records have as many entries as their link count says.
 *
 * Entries don't come in the order of the records they lead to, so they are counted, for a window of
 * records at a time. Beside a writer, names move while they are being counted. So those records
 * whose numbers differ are counted once more, all inside one transaction; that is the only long one
 * of a check, and needed only if numbers differ.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "check.h"
#include "record.h"

struct links {
    uint64_t id;
    uint32_t expected, found;
};

struct window {
    struct links *list; /* in the order of ids */
    size_t count;
    struct scan records; /* where the next window begins */
};

/* An entry for each directory but those that are found without one. */
static uint32_t expected_links(uint64_t id, const struct layout_record *record)
{
    return id == STORE_ROOT_ID || id == STORE_STAGING_ID ? 0 : record->nlink;
}

/* The next CHECK_WINDOW records: 1, or 0 if these are the last. */
static int fill(struct check *check, struct window *window)
{
    MDB_val k, v;
    int r = 1;
    for (window->count = 0; window->count < CHECK_WINDOW;) {
        struct layout_record record;
        uint64_t big;
        r = check_next(check, &window->records, "records", &k, &v);
        if (r <= 0)
            break;
        if (k.mv_size != sizeof(big) || v.mv_size < sizeof(record))
            continue; /* told before */
        memcpy(&big, k.mv_data, sizeof(big));
        memcpy(&record, v.mv_data, sizeof(record));
        uint64_t id = be64toh(big);
        window->list[window->count++] = (struct links){id, expected_links(id, &record), 0};
    }
    scan_pause(&window->records);
    return r;
}

static int compare(const void *a, const void *b)
{
    uint64_t one = ((const struct links *)a)->id, other = ((const struct links *)b)->id;
    return one < other ? -1 : one > other;
}

static void count_entry(struct window *window, const MDB_val *value)
{
    struct layout_entry entry;
    if (value->mv_size != sizeof(entry))
        return;
    memcpy(&entry, value->mv_data, sizeof(entry));
    const struct links wanted = {.id = entry.id};
    struct links *links = bsearch(&wanted, window->list, window->count, sizeof(wanted), compare);
    if (links != NULL)
        links->found++;
}

static int count_entries(struct check *check, struct window *window)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.entries);
    while ((r = check_next(check, &scan, "entries", &k, &v)) > 0)
        count_entry(window, &v);
    return r;
}

/* Leave only those in the window whose numbers differ. */
static void keep_suspects(struct window *window)
{
    size_t kept = 0;
    for (size_t i = 0; i < window->count; i++)
        if (window->list[i].expected != window->list[i].found)
            window->list[kept++] = window->list[i];
    window->count = kept;
}

static int recount(struct check *check, struct view *view, struct window *window)
{
    size_t kept = 0;
    for (size_t i = 0; i < window->count; i++) {
        struct layout_record record;
        uint64_t id = window->list[i].id;
        if (record_get(check->store, view, id, &record, NULL) == 0)
            window->list[kept++] = (struct links){id, expected_links(id, &record), 0};
    }
    window->count = kept;
    MDB_cursor *entries;
    MDB_val k, v;
    int rc = mdb_cursor_open(view->txn, check->store->tables.entries, &entries);
    if (rc != 0)
        return lmdb_error(rc);
    while ((rc = guard_cursor_get(entries, &k, &v, MDB_NEXT)) == 0)
        count_entry(window, &v);
    mdb_cursor_close(entries);
    return rc == MDB_NOTFOUND ? 0 : lmdb_error(rc);
}

static int verify_suspects(struct check *check, struct window *window)
{
    keep_suspects(window);
    if (window->count == 0)
        return 0;
    {
        cleanup_view struct view view = {0};
        int r = view_open_committed(check->store, &view);
        if (r == 0)
            r = recount(check, &view, window);
        if (r < 0)
            return r == -EIO ? 0 : r; /* the damage was told before */
    }
    keep_suspects(window);
    for (size_t i = 0; i < window->count; i++)
        check_record_problem(check, window->list[i].id,
                             "its link count is %" PRIu32 ", but %" PRIu32 " names lead to it",
                             window->list[i].expected, window->list[i].found);
    return 0;
}

int check_links(struct check *check)
{
    cleanup_free struct links *list = calloc(CHECK_WINDOW, sizeof(*list));
    struct window window = {.list = list};
    if (list == NULL)
        return -ENOMEM;
    scan_start(&window.records, check->store, check->store->tables.records);
    for (int more = 1; more > 0;) {
        more = fill(check, &window);
        int r = more < 0 ? more : count_entries(check, &window);
        if (r == 0)
            r = verify_suspects(check, &window);
        if (r < 0)
            return r;
    }
    return 0;
}
