/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.h: what the parts of store_check() share.
 *
 * Every part walks one table and compares what it finds with the other tables inside the
 * same short transaction: there the store is at rest, whatever a writer does. Where a comparison
 * needs more than one transaction, its rule (in the part that has it) says why a change in between
 * can't look like damage.
 *
 * Memory is bounded: counters for CHECK_WINDOW records or contents at a time, and a buffer.
 */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

#include <xxhash.h>

#include "private.h"
#include "scan.h"

/* Records (or contents) that are counted in one go: 16 MiB of counters. A store with more of them
 * is walked several times. */
#define CHECK_WINDOW ((size_t)1 << 20)

#define CHECK_BUFFER ((size_t)1 << 20)
#define CHECK_PROBLEM 256 /* bytes of the text of a problem, with its NUL */

struct check {
    struct store *store;
    const struct store_observer *observer;
    struct store_work *work, all;
    char *buffer; /* CHECK_BUFFER bytes */
    XXH3_state_t *whole, *extent, *piece;
    bool cached_reads;   /* the kernel can't read without filling its cache */
    unsigned names_left; /* searches of all entries for a file's name */
};

/* A problem. `path` may be NULL: no memory for it. */
void check_problem(struct check *check, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, of a record, by its path, which is searched for. No transaction may be open, so call
 * scan_pause() before. */
void check_record_problem(struct check *check, uint64_t id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Write down what is wrong, to be told when no transaction is open. Always false, so that the
 * first thing that is wrong is the one that is told. */
bool check_bad(char problem[CHECK_PROBLEM], const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool check_is_zero(const void *bytes, size_t size);

/*
 * scan_next() for a check: 1, 0 at the end, also where the table can't be walked any
 * further, which is a problem that this reports; -EINTR when it is time to stop.
 */
int check_next(struct check *check, struct scan *scan, const char *table, MDB_val *key,
               MDB_val *value);

/* Parts, in their order. 0, or a negative errno that ends the check. */
int check_records(struct check *check);  /* records.c: one by one, with their content */
int check_entries(struct check *check);  /* entries.c: each leads to a record of its type */
int check_links(struct check *check);    /* links.c: records have as many entries as they say */
int check_contents(struct check *check); /* unused.c: extents, contents and records agree */
int check_orphans(struct check *check);  /* orphans.c */

/* Read and verify the content of a record. `whole` is false for an orphan that is being removed:
 * parts of it may be gone. */
int check_content(struct check *check, uint64_t id, const struct layout_record *record, bool whole);

#endif
