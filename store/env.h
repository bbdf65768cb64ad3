/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * env.h: the LMDB environment of a store: its tables, pooled read transactions, and a map
 * that grows.
 *
 * Rules that it keeps (each was learnt from a failure): never MDB_WRITEMAP (opening with a
 * smaller map truncates the file under others, a full disk is SIGBUS), never MDB_NOSYNC (a
 * power cut tears the tree), MDB_NOTLS (read transactions belong to requests, not threads),
 * MDB_NORDAHEAD (payload is read through the descriptor, the map is for the tree).
 *
 * Not thread-safe where it opens and closes; all else may be called by any thread.
 */
#ifndef STORE_ENV_H
#define STORE_ENV_H

#include <lmdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "guard.h"
#include "util.h"

struct env;

struct tables {
    MDB_dbi meta, entries, records, extents, contents, orphans;
};

/* LMDB's own table of free pages: transaction -> number of pages, the pages, falling. Only read
 * transactions may look. */
#define ENV_FREE_TABLE ((MDB_dbi)0)

/* What env functions and lmdb_error() return when the map is too small for a transaction:
 * abort it, env_grow(), repeat. No system call on the way returns it. */
#define ENV_MAP_FULL (-ENOBUFS)

/* The negative errno for what an LMDB call returned. */
int lmdb_error(int rc);

/*
 * Open the environment in `path`, or make it unless read_only. map_size 0 = as much address
 * space as is sensible. `fresh` tells that it holds no tables yet: env_create_tables() first.
 * -EINVAL: LMDB refuses it.
 */
int env_open(const char *path, bool read_only, size_t map_size, struct env **out, bool *fresh);
void env_close(struct env *env);

/* Open the tables; with `create`, in the write transaction `txn`, make them. -ENOENT if
 * one is missing. */
int env_open_tables(struct env *env, MDB_txn *txn, bool create);
const struct tables *env_tables(const struct env *env);

MDB_env *env_lmdb(const struct env *env);
int env_fd(const struct env *env);           /* data.mdb; never close it */
size_t env_page_size(const struct env *env); /* bytes */
size_t env_map_size(const struct env *env);  /* bytes */

/*
 * A read transaction from the pool. Keep it short: pages freed meanwhile by the writer are not used
 * again as long as it lasts, and the map can't grow. Pointers into it end with it; file offsets
 * live as long as their record.
 */
int env_read_begin(struct env *env, MDB_txn **txn);
void env_read_end(struct env *env, MDB_txn *txn);

/* Where in data.mdb a value with pages of its own, found by read transaction `txn`, lies, in
 * bytes. Reads no page of the value. -EIO if the tree makes no sense. */
off_t env_offset(struct env *env, MDB_txn *txn, const void *value);

/* A write transaction; one at a time, and only from the thread that ends it (by
 * mdb_txn_abort() or env_write_commit()). */
int env_write_begin(struct env *env, MDB_txn **txn);
/* -ENOSPC where LMDB says EIO because the disk is full. */
int env_write_commit(struct env *env, MDB_txn *txn);

/* Double the map. Waits for all read transactions. No write transaction may be open. */
int env_grow(struct env *env);

#endif
