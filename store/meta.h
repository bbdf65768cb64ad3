/* SPDX-License-Identifier: BSD-2-Clause */
/* meta.h: table "meta": what the store is, and the next id. */
#ifndef STORE_META_H
#define STORE_META_H

#include "private.h"

/* Write the format of a new store. */
int meta_create(struct store *store, struct view *view);

/* -ENOENT if there is none. Only the fields that fit the first known version are sure to be there.
 */
int meta_format(struct store *store, struct view *view, struct layout_format *format);

/* `count` ids that were never used, the first of them. Any thread. They are saved with every
 * transaction, so with what they name: a crash forgets only ids that nothing durable has. */
uint64_t meta_new_ids(struct store *store, uint64_t count);

/* No id from here on was ever used by what is committed. -EIO if that is not known. */
int meta_next_id(struct store *store, struct view *view, uint64_t *id);

/* Go on behind them: when the store is opened. */
int meta_load(struct store *store, struct view *view);
/* A writer_fn for the end of each transaction; `arg` is the store. */
int meta_save(struct view *view, void *arg);

/* The same: a transaction that writes something, if only that. */
int meta_renew(struct view *view, void *arg);

/* Trees whose files are to be released (sweep.h): directory `id`, of whose files none has an id
 * from `limit` on. meta_next_mark() finds the first one with an id of at least `from`; -ENOENT if
 * there is none. */
int meta_mark(struct store *store, struct view *view, uint64_t id, uint64_t limit);
int meta_unmark(struct store *store, struct view *view, uint64_t id);
int meta_next_mark(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                   uint64_t *limit);

#endif
