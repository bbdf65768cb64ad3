/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guard.h: looking things up in a tree that may be damaged, or on a disk that fails.
 *
 * LMDB believes its pages. A damaged one makes it stop the process by an assertion or run into
 * memory that isn't there (SIGSEGV); a page of the map that the disk can't read is SIGBUS. While
 * one of these calls runs, all that ends the call instead, with MDB_CORRUPTED: nothing is lost,
 * because looking up holds no lock and owns nothing. Outside of them such a signal ends the
 * process, as ever; and what LMDB does when it writes isn't covered.
 */
#ifndef STORE_GUARD_H
#define STORE_GUARD_H

#include <lmdb.h>

/* Once per environment, after mdb_env_create(). Takes over SIGSEGV and SIGBUS in this process. */
void guard_install(MDB_env *env);

/* mdb_get() and mdb_cursor_get(). After MDB_CORRUPTED a cursor is good for closing only. */
int guard_get(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *value);
int guard_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op);

#endif
