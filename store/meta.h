/* SPDX-License-Identifier: BSD-2-Clause */
/* meta.h: table "meta": what the store is, and the next id. */
#ifndef STORE_META_H
#define STORE_META_H

#include "private.h"

/* Write the format of a new store. */
int meta_create(struct store *store, MDB_txn *txn);

/* -ENOENT if there is none. Only the fields that fit the first known version are sure to be there.
 */
int meta_format(struct store *store, MDB_txn *txn, struct layout_format *format);

/* The next id, in a write transaction: it is durable with what it names, so no id is ever given
 * out twice. */
int meta_new_id(struct store *store, MDB_txn *txn, uint64_t *id);
/* The same for `count` ids from *first on. */
int meta_new_ids(struct store *store, MDB_txn *txn, uint64_t count, uint64_t *first);
/* No id from here on was ever used. -EIO if that is not known. */
int meta_next_id(struct store *store, MDB_txn *txn, uint64_t *id);

/* Write it again: a transaction that changes nothing. */
int meta_renew(struct store *store, MDB_txn *txn);

#endif
