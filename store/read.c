/* SPDX-License-Identifier: BSD-2-Clause */
/* read.c: everything that looks without changing: look-ups, attributes, listings, content. */
#include <fcntl.h>
#include <sys/stat.h>

#include "extent.h"
#include "lease.h"
#include "record.h"
#include "staging.h"
#include "tree.h"
#include "unseal.h"
#include "verify.h"

/* Spans that one read can touch: 1 MiB in extents of 128 KiB is 9; more come in turns. */
#define SPANS_MAX 16

/* ------------------------------------------------------------- attributes -- */

static int get_attr(struct store *store, struct view *view, uint64_t id, struct store_attr *attr,
                    bool *staged)
{
    struct layout_record record;
    int r = record_get(store, view, id, &record, NULL);
    if (r < 0)
        return r;
    record_attr(store, id, &record, attr);
    *staged = attr->open;
    attr->reopened = attr->open && attr->held && unsealed_lately(store, id);
    return 0;
}

int store_getattr(struct store *store, uint64_t id, struct store_attr *attr)
{
    /* A staged file without bytes is empty, or was sealed since: then the record says so. */
    bool staged = true;
    for (int attempt = 0; attempt < 2 && staged; attempt++) {
        cleanup_view struct view view = {0};
        int r = view_open(store, &view);
        if (r == 0)
            r = get_attr(store, &view, id, attr, &staged);
        view_close(&view);
        if (r == 0 && staged) {
            r = staging_attr(store, attr);
            if (r == -ENOENT)
                continue;
            return r;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int store_lookup(struct store *store, uint64_t parent, const char *name, struct store_attr *attr)
{
    struct entry entry;
    bool staged = false;
    {
        cleanup_view struct view view = {0};
        int r = view_open(store, &view);
        if (r == 0)
            r = tree_find(store, &view, parent, name, &entry);
        if (r == 0)
            r = get_attr(store, &view, entry.id, attr, &staged);
        if (r < 0)
            return r;
    }
    return staged ? store_getattr(store, entry.id, attr) : 0;
}

/* ------------------------------------------------------------ directories -- */

struct listing {
    struct store *store;
    struct view *view;
    bool with_attr;
    store_entry_fn *each;
    void *arg;
    int result;
};

static int list_attr(const struct listing *listing, uint64_t id, struct store_attr *attr)
{
    bool staged;
    int r = get_attr(listing->store, listing->view, id, attr, &staged);
    if (r < 0 || !staged)
        return r;
    r = staging_attr(listing->store, attr);
    return r == -ENOENT ? 0 : r; /* no bytes yet: nothing is sealed while the view is open */
}

static bool list_one(void *arg, const char *name, const struct entry *entry, uint64_t next)
{
    struct listing *listing = arg;
    struct store_attr attr;
    if (listing->with_attr) {
        listing->result = list_attr(listing, entry->id, &attr);
        if (listing->result == -ENOENT) { /* gone since this listing began */
            listing->result = 0;
            return true;
        }
        if (listing->result < 0)
            return false;
    }
    return listing->each(listing->arg, name, entry->id, entry->type, (off_t)next,
                         listing->with_attr ? &attr : NULL);
}

int store_readdir(struct store *store, uint64_t id, off_t cursor, bool with_attr,
                  store_entry_fn *each, void *arg)
{
    cleanup_view struct view view = {0};
    struct layout_record record;
    int r = view_open(store, &view);
    if (r == 0)
        r = record_get(store, &view, id, &record, NULL);
    if (r < 0)
        return r;
    if (!S_ISDIR(record.mode))
        return -ENOTDIR;
    struct listing listing = {store, &view, with_attr, each, arg, 0};
    r = entry_list(store, &view, id, (uint64_t)cursor, list_one, &listing);
    return r < 0 ? r : listing.result;
}

/* ---------------------------------------------------------------- content -- */

/* What a read found out inside its transaction, and does after it. */
struct plan {
    enum layout_place place;
    size_t size; /* bytes to read; already copied if inline */
    bool damaged;
    struct layout_record record;
    struct span spans[SPANS_MAX];
    int count;
    uint64_t lease; /* on the content; 0: none */
};

/* What is held may get other content under its id while it is read. */
static int hold_content(struct store *store, struct plan *plan)
{
    if (store->read_only || (plan->record.flags & LAYOUT_HELD) == 0)
        return 0;
    int r = leases_add(store->leases, plan->record.link, 1);
    if (r == 0)
        plan->lease = plan->record.link;
    return r;
}

static int make_plan(struct store *store, struct view *view, uint64_t id, void *buffer, size_t size,
                     uint64_t offset, struct plan *plan)
{
    struct layout_record *record = &plan->record;
    MDB_val payload;
    int r = record_get(store, view, id, record, &payload);
    if (r < 0)
        return r;
    if (S_ISDIR(record->mode))
        return -EISDIR;
    plan->place = record->place;
    if (record->place == LAYOUT_STAGED)
        return 0; /* sealed or not: the staging area has the bytes */

    uint64_t left = offset < record->size ? record->size - offset : 0;
    plan->size = left < size ? left : size;
    if (record->place == LAYOUT_INLINE) {
        plan->damaged = !verify_inline(store, record, &payload);
        if (plan->size > 0)
            memcpy(buffer, (char *)payload.mv_data + offset, plan->size);
        return 0;
    }
    plan->count = content_locate(store, view, record->link, record->size, offset, plan->size,
                                 plan->spans, SPANS_MAX);
    return plan->count < 0 ? plan->count : hold_content(store, plan);
}

/* The places outlive the transaction, because the record is under a lease or has a name that
 * the caller keeps; so the disk is not waited for inside it. No lease reaches a writer in another
 * process: beside one, what was read counts only if the record is still there afterwards. */
static ssize_t read_spans(struct store *store, uint64_t id, const struct plan *plan, char *buffer,
                          size_t room)
{
    size_t done = 0;
    for (int i = 0; i < plan->count; i++) {
        const struct span *span = &plan->spans[i];
        int r = verify_read(store, id, &plan->record, span, buffer + done, room - done);
        if (r < 0)
            return r;
        done += span->length;
    }
    return (ssize_t)done;
}

/* Reads up to SPANS_MAX extents; *more tells that there were others behind them. */
static ssize_t read_some(struct store *store, uint64_t id, void *buffer, size_t size, off_t offset,
                         bool *more)
{
    *more = false;
    for (int attempt = 0; attempt < 2; attempt++) {
        struct plan plan = {0};
        {
            cleanup_view struct view view = {0};
            int r = view_open(store, &view);
            if (r == 0)
                r = make_plan(store, &view, id, buffer, size, (uint64_t)offset, &plan);
            if (r < 0)
                return r;
        }
        if (plan.damaged)
            return verify_report(store, id, 0, "wrong bytes");
        if (plan.place == LAYOUT_INLINE)
            return (ssize_t)plan.size;
        if (plan.place == LAYOUT_EXTENTS) {
            ssize_t n = read_spans(store, id, &plan, buffer, size);
            if (plan.lease != 0)
                store_lease_drop(store, plan.lease, 1);
            if (store->read_only && verify_is_gone(store, id))
                return -ENOENT;
            *more = n > 0 && (size_t)n < plan.size;
            return n;
        }
        ssize_t n = staging_read(store, id, buffer, size, offset);
        if (n != -ENOENT)
            return n;
        /* No bytes yet, or sealed since: the record knows. */
    }
    return 0;
}

ssize_t store_read(struct store *store, uint64_t id, void *buffer, size_t size, off_t offset)
{
    if (offset < 0)
        return -EINVAL;
    if (offset >= STORE_FILE_MAX)
        return 0;
    size_t done = 0;
    bool more = true;
    while (more && done < size) {
        ssize_t n =
            read_some(store, id, (char *)buffer + done, size - done, offset + (off_t)done, &more);
        if (n < 0)
            return n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}
