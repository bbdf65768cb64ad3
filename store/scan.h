/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scan.h: every entry of a table, in the order of keys, in short read transactions.
 *
 * Beside a writer: what is there during the whole scan is met exactly once, what comes or goes
 * meanwhile may be met or not. The memory that the pages take in this process is given back as the
 * scan goes on, so a large table doesn't make it large.
 */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include "memory.h"
#include "private.h"

#define SCAN_KEY_MAX 511 /* LMDB's */

struct scan {
    struct store *store;
    MDB_dbi table;
    struct view view; /* the transaction of the present entry: for look-ups beside it */
    MDB_cursor *cursor;
    unsigned steps;  /* left in this transaction */
    unsigned pauses; /* transactions so far */
    char key[SCAN_KEY_MAX];
    size_t key_size; /* of the present entry; 0 before the first */
    const void *at;  /* the value of the present entry */
    struct memory memory;
};

void scan_start(struct scan *scan, struct store *store, MDB_dbi table);
/* The next entry: 1; 0 at the end; -EIO if the tree can't be walked on. The values are valid until
 * the next call on `scan`, and so is scan->view. No other transaction may be open. */
int scan_next(struct scan *scan, MDB_val *key, MDB_val *value);
/* End the transaction for now, before something that takes time. */
void scan_pause(struct scan *scan);

#define cleanup_scan cleanup(scan_pause)

#endif
