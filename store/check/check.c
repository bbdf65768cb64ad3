/* SPDX-License-Identifier: BSD-2-Clause */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>

#include "meta.h"
#include "naming.h"
#include "observe.h"

/* After so many files whose names had to be searched for among all entries, problems name record
 * numbers: a store with a million problems is to be thrown away, not to be searched a million
 * times. */
#define NAMES_MAX 200

static void report(struct check *check, const char *path, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void report(struct check *check, const char *path, const char *format, va_list args)
{
    char text[STORE_WHY_MAX];
    vsnprintf(text, sizeof(text), format, args);
    check->work->problems++;
    observe_message(check->observer, path == NULL ? "?" : path, "%s", text);
}

void check_problem(struct check *check, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(check, path, format, args);
    va_end(args);
}

bool check_bad(char problem[CHECK_PROBLEM], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(problem, CHECK_PROBLEM, format, args);
    va_end(args);
    return false;
}

bool check_is_zero(const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (((const char *)bytes)[i] != 0)
            return false;
    return true;
}

void check_record_problem(struct check *check, uint64_t id, const char *format, ...)
{
    cleanup_free char *path = naming_path(check->store, id, &check->names_left);
    va_list args;
    va_start(args, format);
    report(check, path, format, args);
    va_end(args);
}

int check_next(struct check *check, struct scan *scan, const char *table, MDB_val *key,
               MDB_val *value)
{
    if (observe_stop(check->observer))
        return -EINTR;
    int r = scan_next(scan, key, value);
    if (r >= 0 || r == -ENOMEM || r == -EAGAIN)
        return r;
    scan_pause(scan);
    check_problem(check, "data.mdb",
                  "table \"%s\" is damaged (%s): what follows in it could not be checked", table,
                  strerror(-r));
    return 0;
}

static int check_meta(struct check *check)
{
    cleanup_view struct view view = {0};
    uint64_t next;
    int r = view_open_committed(check->store, &view);
    if (r < 0)
        return r;
    r = meta_next_id(check->store, &view, &next);
    if (r < 0 || next < STORE_FIRST_ID)
        check_problem(check, "data.mdb", "table \"meta\" has no usable next id");
    return 0;
}

static void guess_all(struct check *check)
{
    struct store_stat stat;
    bool wanted = check->observer != NULL && check->observer->progress != NULL;
    if (!wanted || store_stat(check->store, true, &stat) < 0)
        return;
    check->all.files = stat.records;
    check->all.bytes = stat.bytes;
}

static int check_all(struct check *check)
{
    guess_all(check);
    int r = check_meta(check);
    if (r == 0)
        r = check_records(check);
    if (r == 0)
        r = check_entries(check);
    if (r == 0)
        r = check_links(check);
    if (r == 0)
        r = check_contents(check);
    return r == 0 ? check_orphans(check) : r;
}

int store_check(struct store *store, const struct store_observer *observer, struct store_work *work)
{
    struct check check = {
        .store = store, .observer = observer, .work = work, .names_left = NAMES_MAX};
    *work = (struct store_work){0};
    check.buffer = malloc(CHECK_BUFFER);
    check.whole = XXH3_createState();
    check.extent = XXH3_createState();
    check.piece = XXH3_createState();
    bool memory =
        check.buffer != NULL && check.whole != NULL && check.extent != NULL && check.piece != NULL;
    int r = memory ? check_all(&check) : -ENOMEM;
    if (r < 0 && r != -EINTR)
        observe_message(observer, "data.mdb", "cannot check it: %s", strerror(-r));
    XXH3_freeState(check.whole);
    XXH3_freeState(check.extent);
    XXH3_freeState(check.piece);
    free(check.buffer);
    return r;
}
