/* SPDX-License-Identifier: BSD-2-Clause */
/* entries.c: each entry by itself, and what it leads to. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "check.h"
#include "entry.h"
#include "meta.h"
#include "naming.h"
#include "record.h"
#include "tree.h"

/* What is looked at, in the transaction that found it. */
struct subject {
    struct check *check;
    struct view *view;
    uint64_t parent;
    uint64_t place;
    char name[STORE_NAME_MAX + 1];
    size_t length;
    struct layout_entry entry;
    char problem[CHECK_PROBLEM];
};

static bool check_key(struct subject *subject, const MDB_val *key)
{
    struct layout_entry_key fixed;
    if (key->mv_size <= sizeof(fixed) || key->mv_size > sizeof(fixed) + STORE_NAME_MAX)
        return check_bad(subject->problem, "table \"entries\" has a key of %zu bytes",
                         key->mv_size);
    memcpy(&fixed, key->mv_data, sizeof(fixed));
    subject->parent = be64toh(fixed.parent);
    subject->place = be64toh(fixed.place);
    subject->length = key->mv_size - sizeof(fixed);
    memcpy(subject->name, (char *)key->mv_data + sizeof(fixed), subject->length);
    return true;
}

static bool check_name(struct subject *subject)
{
    const char *name = subject->name;
    if (strlen(name) != subject->length || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return check_bad(subject->problem, "the entry has an impossible name");
    if (subject->parent == STORE_ROOT_ID && strcmp(name, STORE_CONTROL_NAME) == 0)
        return check_bad(subject->problem, "the entry has the reserved name");
    return entry_place(name, subject->length) == subject->place ||
           check_bad(subject->problem,
                     "the entry is at a wrong place, where it can't be found by its name");
}

static bool check_parent(struct subject *subject)
{
    struct layout_record record;
    int r = record_get(subject->check->store, subject->view, subject->parent, &record, NULL);
    if (r < 0 && r != -ENOENT)
        return true; /* that record is told of by itself */
    if (r < 0 || !S_ISDIR(record.mode) || record.nlink == 0)
        return check_bad(subject->problem, "the entry is in record %" PRIu64 ", which %s",
                         subject->parent,
                         r < 0                  ? "does not exist"
                         : S_ISDIR(record.mode) ? "was removed"
                                                : "is not a directory");
    return true;
}

/* Files outside staging take no writers, or it is written down that they will not soon. */
static bool check_held(struct subject *subject, const struct layout_record *record)
{
    struct store *store = subject->check->store;
    uint64_t id, limit;
    return (record->flags & LAYOUT_HELD) == 0 ||
           tree_is_below(store, subject->view, subject->parent, STORE_STAGING_ID) != 0 ||
           meta_next_mark(store, subject->view, 0, &id, &limit) != -ENOENT ||
           check_bad(subject->problem, "the entry leads to a file that belongs in staging");
}

static bool check_target(struct subject *subject, const MDB_val *value)
{
    struct layout_entry *entry = &subject->entry;
    struct layout_record record;
    if (value->mv_size != sizeof(*entry))
        return check_bad(subject->problem, "the entry is %zu bytes long", value->mv_size);
    memcpy(entry, value->mv_data, sizeof(*entry));
    int r = record_get(subject->check->store, subject->view, entry->id, &record, NULL);
    if (r == -ENOENT)
        return check_bad(subject->problem,
                         "the entry leads to record %" PRIu64 ", which does not exist", entry->id);
    if (r < 0)
        return true;
    if (((mode_t)entry->type << 12) != (record.mode & S_IFMT))
        return check_bad(subject->problem,
                         "the entry is of another type than its record (%#o, %#o)",
                         (unsigned)entry->type << 12, record.mode & S_IFMT);
    if (record.nlink == 0)
        return check_bad(subject->problem, "the entry leads to a record that was removed");
    if (!check_held(subject, &record))
        return false;
    return !S_ISDIR(record.mode) || record.link == subject->parent ||
           check_bad(subject->problem,
                     "the entry leads to a directory that is in another one by its record");
}

static void tell(struct check *check, const struct subject *subject)
{
    cleanup_free char *path = subject->length == 0
                                  ? strdup("data.mdb")
                                  : naming_path_in(check->store, subject->parent, subject->name);
    check_problem(check, path, "%s", subject->problem);
}

int check_entries(struct check *check)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, check->store, check->store->tables.entries);
    while ((r = check_next(check, &scan, "entries", &k, &v)) > 0) {
        struct subject subject = {.check = check, .view = &scan.view};
        if (check_key(&subject, &k) && check_name(&subject) && check_parent(&subject) &&
            check_target(&subject, &v))
            continue;
        scan_pause(&scan);
        tell(check, &subject);
    }
    return r;
}
