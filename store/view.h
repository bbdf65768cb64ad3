/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * view.h: the tables as somebody sees them: an LMDB transaction, and over it the changes that are
 * not committed yet.
 *
 * What reads or changes records, names and orphans does it through a view, and need not know
 * whether it takes part in a transaction of LMDB's (imports) or makes a change that is visible
 * first and committed later (pending.h). The payload of extents is never pending: what deals with
 * it uses `txn`.
 *
 * Keep views short: as long as there is one, pages that are freed can't be used again, the map
 * can't grow, and changes can't become visible. A thread has one at a time. Values that a view
 * has shown are valid until it is closed or something is changed through it.
 */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include "env.h"
#include "layer.h"

struct pending;
struct store;

#define VIEW_LAYERS 3

struct view {
    struct env *env;
    MDB_txn *txn;
    const struct layer *layers[VIEW_LAYERS]; /* over the tables, the newest first; NULL: no more */
    struct layer *changes;                   /* that takes what is changed; NULL: `txn` does */
    struct pending *pending;                 /* whose layers these are, held until the end */
    bool reads;                              /* `txn` is the view's own */
    bool *publishes; /* set once the published tree is changed; NULL: nobody wants to know */
};

/* What is visible now; what is committed now. To be closed, also after an error:
 * cleanup_view struct view view = {0}; */
int view_open(struct store *store, struct view *view);
int view_open_committed(struct store *store, struct view *view);
void view_close(struct view *view);
#define cleanup_view cleanup(view_close)

/* The view of who changes the tables in write transaction `txn`. Need not be closed. */
struct view view_of_transaction(struct env *env, MDB_txn *txn);

/* -ENOENT. */
int view_get(struct view *view, MDB_dbi table, const MDB_val *key, MDB_val *value);

/* Room for a value of `size` bytes, to be filled before the next call. view_append() is for a key
 * that doesn't exist and is probably the last one of its table: so pages are filled whole. */
typedef int view_room_fn(struct view *view, MDB_dbi table, const MDB_val *key, size_t size,
                         void **value);
int view_put(struct view *view, MDB_dbi table, const MDB_val *key, size_t size, void **value);
int view_append(struct view *view, MDB_dbi table, const MDB_val *key, size_t size, void **value);

/* -ENOENT; but where changes are pending it isn't looked for, and there is none. */
int view_remove(struct view *view, MDB_dbi table, const MDB_val *key);

/*
 * The keys of a table in order. view_seek() finds the first one from `key` on, view_next() the one
 * behind; -ENOENT at the end. The keys and values are valid until the next call.
 */
struct view_cursor {
    MDB_cursor *committed;
    int rc; /* of the committed key */
    MDB_val key, value;
    struct layer_change *changes[VIEW_LAYERS];
};
int view_seek(struct view *view, MDB_dbi table, const MDB_val *from, struct view_cursor *cursor,
              MDB_val *key, MDB_val *value);
int view_next(struct view_cursor *cursor, MDB_val *key, MDB_val *value);
void view_cursor_close(struct view_cursor *cursor);

#endif
