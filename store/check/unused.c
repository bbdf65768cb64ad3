/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unused.c: extents belong to a content that a record leads to, and to one record only; and
 * table "contents" knows no others. (That each record's content is there and whole is
 * records.c's part.)
 *
 * Contents are counted a window at a time, like links. Beside a writer: a content is born as an
 * orphan or together with its record, never changes records, and goes away with its record. So one
 * that has extents and is no orphan at some moment has its record from then on until it goes; if a
 * scan of the records that began later has not met it, and the extents are still there afterwards,
 * then nobody leads to it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "check.h"
#include "orphan.h"

struct content {
    uint64_t id;
    uint32_t records; /* that lead to it */
    bool orphan;      /* it was one when its extents were met */
};

struct window {
    struct content *list; /* in the order of ids */
    size_t count;
    uint64_t first, last; /* ids: contents outside belong to other windows */
    struct scan extents;  /* where the next window begins */
};

/* The next CHECK_WINDOW contents: 1, or 0 if these are the last. */
static int fill(struct check *check, struct window *window)
{
    MDB_val k, v;
    int r = 1;
    window->first = window->last + 1;
    for (window->count = 0; window->count < CHECK_WINDOW;) {
        struct layout_extent_key key;
        r = check_next(check, &window->extents, "extents", &k, &v);
        if (r <= 0)
            break;
        if (k.mv_size != sizeof(key)) {
            check_problem(check, "data.mdb", "table \"extents\" has a key of %zu bytes", k.mv_size);
            continue;
        }
        memcpy(&key, k.mv_data, sizeof(key));
        uint64_t id = be64toh(key.content);
        if (id <= window->last)
            continue; /* one more extent of it */
        window->last = id;
        int why = orphan_get(check->store, &window->extents.view, id);
        window->list[window->count++] = (struct content){id, 0, why != 0};
    }
    scan_pause(&window->extents);
    if (r == 0)
        window->last = UINT64_MAX;
    return r;
}

static int compare(const void *a, const void *b)
{
    uint64_t one = ((const struct content *)a)->id, other = ((const struct content *)b)->id;
    return one < other ? -1 : one > other;
}

static struct content *find(const struct window *window, uint64_t id)
{
    const struct content wanted = {.id = id};
    return bsearch(&wanted, window->list, window->count, sizeof(wanted), compare);
}

static int count_records(struct check *check, const struct window *window)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.records);
    while ((r = check_next(check, &scan, "records", &k, &v)) > 0) {
        struct layout_record record;
        if (v.mv_size < sizeof(record))
            continue;
        memcpy(&record, v.mv_data, sizeof(record));
        struct content *content = record.place == LAYOUT_EXTENTS && !S_ISDIR(record.mode)
                                      ? find(window, record.link)
                                      : NULL;
        if (content != NULL)
            content->records++;
    }
    return r;
}

/* Any: one that is being removed may have lost its first ones. */
static bool has_extents(struct check *check, struct view *view, uint64_t id)
{
    struct layout_extent_key key = {htobe64(id), 0};
    MDB_cursor *extents;
    MDB_val k = {sizeof(key), &key}, v;
    if (mdb_cursor_open(view->txn, check->store->tables.extents, &extents) != 0)
        return false;
    int rc = guard_cursor_get(extents, &k, &v, MDB_SET_RANGE);
    mdb_cursor_close(extents);
    return rc == 0 && k.mv_size == sizeof(key) &&
           memcmp(k.mv_data, &key.content, sizeof(key.content)) == 0;
}

/* Has it extents, and is no orphan, now? */
static bool is_there(struct check *check, uint64_t id)
{
    cleanup_view struct view view = {0};
    return view_open_committed(check->store, &view) == 0 && has_extents(check, &view, id) &&
           orphan_get(check->store, &view, id) == 0;
}

static void tell(struct check *check, uint64_t id, const char *text)
{
    char name[64];
    snprintf(name, sizeof(name), "content %" PRIu64, id);
    check_problem(check, name, "%s", text);
}

static void tell_unused(struct check *check, const struct window *window)
{
    for (size_t i = 0; i < window->count; i++) {
        const struct content *content = &window->list[i];
        if (content->records == 0 && !content->orphan && is_there(check, content->id))
            tell(check, content->id, "it takes up space, but no file has it");
    }
}

/* What is wrong with one entry of table "contents"; NULL: nothing. */
static const char *judge(struct check *check, const struct window *window, struct view *view,
                         uint64_t id, uint32_t references)
{
    const struct content *content = find(window, id);
    if (content != NULL)
        return content->records == 0 || content->records == references
                   ? NULL
                   : "table \"contents\" has a wrong number of files that have it";
    /* New since the extents were counted, unless it has none now either. */
    return has_extents(check, view, id) ? NULL : "it is in table \"contents\", but has no extents";
}

static int check_table(struct check *check, const struct window *window)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.contents);
    while ((r = check_next(check, &scan, "contents", &k, &v)) > 0) {
        struct layout_content_key key;
        struct layout_content value;
        if (k.mv_size != sizeof(key) || v.mv_size != sizeof(value)) {
            check_problem(check, "data.mdb", "table \"contents\" has an entry of %zu + %zu bytes",
                          k.mv_size, v.mv_size);
            continue;
        }
        memcpy(&key, k.mv_data, sizeof(key));
        memcpy(&value, v.mv_data, sizeof(value));
        uint64_t id = be64toh(key.content);
        const char *problem = id < window->first || id > window->last
                                  ? NULL
                                  : judge(check, window, &scan.view, id, value.references);
        if (problem == NULL)
            continue;
        scan_pause(&scan);
        tell(check, id, problem);
    }
    return r;
}

int check_contents(struct check *check)
{
    cleanup_free struct content *list = calloc(CHECK_WINDOW, sizeof(*list));
    struct window window = {.list = list};
    if (list == NULL)
        return -ENOMEM;
    scan_start(&window.extents, check->store, check->store->tables.extents);
    for (int more = 1; more > 0;) {
        more = fill(check, &window);
        int r = more < 0 ? more : count_records(check, &window);
        if (r == 0)
            tell_unused(check, &window);
        if (r == 0)
            r = check_table(check, &window);
        if (r < 0)
            return r;
    }
    return 0;
}
