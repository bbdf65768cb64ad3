/* SPDX-License-Identifier: BSD-2-Clause */
/* records.c: each record by itself, its directories above it, and its content. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "check.h"
#include "extent.h"
#include "meta.h"
#include "observe.h"
#include "orphan.h"
#include "record.h"

/* What is looked at, in the transaction that found it. */
struct subject {
    struct check *check;
    struct view *view;
    uint64_t id;
    struct layout_record record;
    const char *payload; /* inline */
    char problem[CHECK_PROBLEM];
};

static bool bad_table(struct subject *subject, const char *table, int error)
{
    return check_bad(subject->problem, "table \"%s\" could not be searched for it: %s", table,
                     strerror(-error));
}

/* ------------------------------------------------------------ record alone -- */

static bool check_value(struct subject *subject, const MDB_val *value)
{
    struct layout_record *record = &subject->record;
    if (value->mv_size < sizeof(*record))
        return check_bad(subject->problem, "the record is %zu bytes long, too short",
                         value->mv_size);
    memcpy(record, value->mv_data, sizeof(*record));
    subject->payload = (const char *)value->mv_data + sizeof(*record);
    mode_t type = record->mode & S_IFMT;
    if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK)
        return check_bad(subject->problem, "the record is of an unknown type (mode %#o)",
                         record->mode);
    if (record->place > LAYOUT_STAGED || (record->flags & ~LAYOUT_HELD) != 0)
        return check_bad(subject->problem, "the record has an unknown place or flag (%u, %#x)",
                         record->place, record->flags);
    if (record->size > (uint64_t)STORE_FILE_MAX)
        return check_bad(subject->problem, "the record has an impossible size, %" PRIu64 " bytes",
                         record->size);
    size_t payload = record->place == LAYOUT_INLINE && type != S_IFDIR ? record->size : 0;
    if (value->mv_size != sizeof(*record) + payload)
        return check_bad(subject->problem, "the record is %zu bytes long instead of %zu",
                         value->mv_size, sizeof(*record) + payload);
    return true;
}

static bool check_times(struct subject *subject)
{
    const struct layout_record *record = &subject->record;
    const struct layout_time times[] = {record->atime, record->mtime, record->ctime, record->btime};
    for (size_t i = 0; i < array_length(times); i++)
        if (times[i].nanoseconds >= 1000000000)
            return check_bad(subject->problem, "the record has a time with %" PRIu32 " nanoseconds",
                             times[i].nanoseconds);
    return true;
}

/* What the place of its payload allows. */
static bool check_place(struct subject *subject)
{
    const struct layout_record *record = &subject->record;
    uint8_t hash[sizeof(record->hash)];
    bool directory = S_ISDIR(record->mode);
    if (directory && (record->place != LAYOUT_INLINE || record->size != 0))
        return check_bad(subject->problem, "the record is of a directory but has content");
    if (S_ISLNK(record->mode) &&
        (record->place == LAYOUT_STAGED || record->size > STORE_SYMLINK_MAX))
        return check_bad(subject->problem,
                         "the record is of a symbolic link but has an impossible content");
    if ((directory || record->place == LAYOUT_STAGED) &&
        (record->size != 0 || !check_is_zero(record->hash, sizeof(record->hash))))
        return check_bad(subject->problem,
                         "the record has the size or hash of a content it does not have");
    if (!directory && (record->place == LAYOUT_EXTENTS) != (record->link != 0))
        return check_bad(subject->problem, "the record does not say where its content is");
    if (directory || record->place != LAYOUT_INLINE)
        return true;
    hash_bytes(subject->payload, record->size, hash);
    return memcmp(hash, record->hash, sizeof(hash)) == 0 ||
           check_bad(subject->problem,
                     "its content (%" PRIu64 " bytes, inside the record) is damaged: the hash "
                     "does not match",
                     record->size);
}

/* -------------------------------------------------------- and other tables -- */

static bool check_id(struct subject *subject)
{
    uint64_t next;
    uint64_t id = subject->id;
    if (id < STORE_FIRST_ID && id != STORE_ROOT_ID && id != STORE_STAGING_ID)
        return check_bad(subject->problem, "the record has a reserved id");
    int r = meta_next_id(subject->check->store, subject->view, &next);
    if (r == 0 && id >= next)
        return check_bad(subject->problem, "the record has an id that was not given out yet");
    return true; /* that there is no next id was told before */
}

static bool check_orphan(struct subject *subject)
{
    bool nameless = subject->record.nlink == 0;
    int why = orphan_get(subject->check->store, subject->view, subject->id);
    if (why < 0)
        return bad_table(subject, "orphans", why);
    if (why != 0 && why != LAYOUT_ORPHAN_RECORD)
        return check_bad(subject->problem, "the record is in table \"orphans\" as a content");
    if (nameless && why == 0)
        return check_bad(subject->problem,
                         "the record has no name and is not in table \"orphans\"");
    return nameless || why == 0 ||
           check_bad(subject->problem,
                     "the record has a name and is to be removed by table \"orphans\"");
}

static bool check_reference(struct subject *subject)
{
    const struct layout_record *record = &subject->record;
    struct store *store = subject->check->store;
    uint32_t references;
    if (record->place != LAYOUT_EXTENTS)
        return true;
    int r = content_references(store, subject->view, record->link, record->size, record->hash,
                               &references);
    if (r == -ENOENT)
        return check_bad(subject->problem,
                         "its content %" PRIu64 " is not in table \"contents\" by its hash",
                         record->link);
    if (r < 0)
        return bad_table(subject, "contents", r);
    r = orphan_get(store, subject->view, record->link);
    return r == 0 || (r < 0 ? bad_table(subject, "orphans", r)
                            : check_bad(subject->problem,
                                        "its content is to be removed by table \"orphans\""));
}

/*
 * From a directory up to the root or staging. Records are met in the order of their ids, so at a
 * directory with a smaller id the rest of the way was walked before (or found wrong, and told). So
 * a circle is told once, and long ways, which are made of ever larger ids, aren't walked from every
 * step of theirs.
 */
static bool check_parents(struct subject *subject)
{
    struct layout_record above;
    uint64_t at = subject->record.link, mark = subject->id;
    for (unsigned steps = 1, limit = 2;; steps++) {
        if (at == STORE_ROOT_ID || at == STORE_STAGING_ID)
            return true;
        if (at == mark) /* Brent's way to find a circle: the mark follows in growing leaps */
            return check_bad(subject->problem,
                             "the directory is below itself: it can't be reached");
        int r = record_get(subject->check->store, subject->view, at, &above, NULL);
        if (r < 0 && r != -ENOENT)
            return true; /* that record is told of by itself */
        if (r < 0 || !S_ISDIR(above.mode) || above.nlink == 0)
            return check_bad(subject->problem, "the directory is in record %" PRIu64 ", which %s",
                             at,
                             r < 0                 ? "does not exist"
                             : S_ISDIR(above.mode) ? "was removed"
                                                   : "is not a directory");
        if (at < subject->id)
            return true;
        if (steps == limit) {
            mark = at;
            limit *= 2;
        }
        at = above.link;
    }
}

static bool check_directory(struct subject *subject)
{
    const struct layout_record *record = &subject->record;
    if (!S_ISDIR(record->mode))
        return (subject->id != STORE_ROOT_ID && subject->id != STORE_STAGING_ID) ||
               check_bad(subject->problem, "the record is not of a directory");
    if (subject->id == STORE_ROOT_ID || subject->id == STORE_STAGING_ID) {
        uint64_t parent = subject->id == STORE_ROOT_ID ? STORE_ROOT_ID : STORE_CONTROL_ID;
        return (record->nlink == 1 && record->link == parent) ||
               check_bad(subject->problem, "the directory has a wrong parent or link count");
    }
    if (record->nlink > 1)
        return check_bad(subject->problem, "the directory has a link count of %" PRIu32,
                         record->nlink);
    return record->nlink == 0 || check_parents(subject);
}

/* ---------------------------------------------------------------- all of it -- */

/* False: subject->problem. *readable: the record itself makes sense. */
static bool judge(struct subject *subject, const MDB_val *value, bool *readable)
{
    *readable = check_value(subject, value);
    return *readable && check_id(subject) && check_times(subject) && check_place(subject) &&
           check_orphan(subject) && check_reference(subject) && check_directory(subject);
}

static int check_record(struct check *check, struct scan *scan, uint64_t id, const MDB_val *value)
{
    struct subject subject = {.check = check, .view = &scan->view, .id = id};
    bool readable;
    bool good = judge(&subject, value, &readable);
    if (!good) {
        scan_pause(scan);
        check_record_problem(check, id, "%s", subject.problem);
    }
    const struct layout_record *record = &subject.record;
    int r = 0;
    if (readable && record->place == LAYOUT_EXTENTS && !S_ISDIR(record->mode)) {
        scan_pause(scan);
        r = check_content(check, id, record, record->nlink > 0);
    } else if (readable && S_ISREG(record->mode)) {
        check->work->bytes += record->size;
    }
    bool directory = readable && S_ISDIR(record->mode);
    check->work->directories += directory;
    check->work->files += !directory;
    observe_progress(check->observer, check->work, &check->all);
    return r;
}

/* Without it nothing can be reached. */
static int check_present(struct check *check, uint64_t id)
{
    cleanup_view struct view view = {0};
    struct layout_record record;
    int r = view_open_committed(check->store, &view);
    if (r < 0)
        return r;
    if (record_get(check->store, &view, id, &record, NULL) == -ENOENT) {
        view_close(&view);
        check_record_problem(check, id, "the record is missing");
    }
    return 0;
}

int check_records(struct check *check)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.records);
    while ((r = check_next(check, &scan, "records", &k, &v)) > 0) {
        uint64_t big;
        if (k.mv_size == sizeof(big)) {
            memcpy(&big, k.mv_data, sizeof(big));
            r = check_record(check, &scan, be64toh(big), &v);
        } else {
            check_problem(check, "data.mdb", "table \"records\" has a key of %zu bytes", k.mv_size);
        }
        if (r < 0)
            return r;
    }
    if (r == 0)
        r = check_present(check, STORE_ROOT_ID);
    return r == 0 ? check_present(check, STORE_STAGING_ID) : r;
}
