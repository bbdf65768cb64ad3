/* SPDX-License-Identifier: BSD-2-Clause */
#include "view.h"

#include "pending.h"
#include "private.h"

static int begin(struct store *store, struct view *view)
{
    view->env = store->env;
    int r = env_read_begin(store->env, &view->txn);
    view->reads = r == 0;
    return r;
}

int view_open_committed(struct store *store, struct view *view)
{
    *view = (struct view){0};
    return begin(store, view);
}

int view_open(struct store *store, struct view *view)
{
    *view = (struct view){0};
    /* The layers first: what leaves them while the transaction begins is in the tables then. */
    if (store->pending != NULL)
        pending_hold(store->pending, view);
    return begin(store, view);
}

void view_close(struct view *view)
{
    if (view->reads)
        env_read_end(view->env, view->txn);
    if (view->pending != NULL)
        pending_release(view->pending);
    *view = (struct view){0};
}

struct view view_of_transaction(struct env *env, MDB_txn *txn)
{
    return (struct view){.env = env, .txn = txn};
}

int view_get(struct view *view, MDB_dbi table, const MDB_val *key, MDB_val *value)
{
    for (int i = 0; i < VIEW_LAYERS && view->layers[i] != NULL; i++) {
        const struct layer_change *change = layer_find(view->layers[i], table, key);
        if (change == NULL)
            continue;
        *value = change->value;
        return change->removed ? -ENOENT : 0;
    }
    MDB_val k = *key;
    return lmdb_error(guard_get(view->txn, table, &k, value));
}

static int put(struct view *view, MDB_dbi table, const MDB_val *key, size_t size, void **value,
               unsigned flags)
{
    MDB_val k = *key, v = {size, NULL};
    int rc = mdb_put(view->txn, table, &k, &v, flags | MDB_RESERVE);
    *value = v.mv_data;
    return lmdb_error(rc);
}

int view_put(struct view *view, MDB_dbi table, const MDB_val *key, size_t size, void **value)
{
    return view->changes != NULL ? layer_put(view->changes, table, key, size, value)
                                 : put(view, table, key, size, value, 0);
}

int view_append(struct view *view, MDB_dbi table, const MDB_val *key, size_t size, void **value)
{
    if (view->changes != NULL)
        return layer_put(view->changes, table, key, size, value);
    int r = put(view, table, key, size, value, MDB_APPEND);
    return r == -EEXIST ? put(view, table, key, size, value, MDB_NOOVERWRITE) : r;
}

int view_remove(struct view *view, MDB_dbi table, const MDB_val *key)
{
    if (view->changes != NULL)
        return layer_remove(view->changes, table, key);
    MDB_val k = *key;
    return lmdb_error(mdb_del(view->txn, table, &k, NULL));
}

/* ------------------------------------------------------------------ cursors -- */

static bool before(const MDB_val *a, const MDB_val *b)
{
    return layer_compare(a, b) < 0;
}

/* The smallest key of all, by the newest layer that has it: NULL is the committed one. */
static bool smallest(const struct view_cursor *cursor, struct layer_change **change)
{
    const MDB_val *key = cursor->rc == 0 ? &cursor->key : NULL;
    *change = NULL;
    for (int i = VIEW_LAYERS - 1; i >= 0; i--) {
        struct layer_change *other = cursor->changes[i];
        if (other == NULL || (key != NULL && before(key, &other->key)))
            continue;
        *change = other;
        key = &other->key;
    }
    return key != NULL;
}

/* Past `key`, wherever it is. */
static void advance(struct view_cursor *cursor, const MDB_val *key)
{
    for (int i = 0; i < VIEW_LAYERS; i++) {
        struct layer_change *change = cursor->changes[i];
        if (change != NULL && !before(key, &change->key))
            cursor->changes[i] = layer_next(change);
    }
    if (cursor->rc == 0 && !before(key, &cursor->key))
        cursor->rc = guard_cursor_get(cursor->committed, &cursor->key, &cursor->value, MDB_NEXT);
}

/* Show what the cursor stands on and go on; skip what was removed. */
static int show(struct view_cursor *cursor, MDB_val *key, MDB_val *value)
{
    struct layer_change *change;
    while (smallest(cursor, &change)) {
        *key = change != NULL ? change->key : cursor->key;
        *value = change != NULL ? change->value : cursor->value;
        advance(cursor, key);
        if (change == NULL || !change->removed)
            return 0;
    }
    return cursor->rc == MDB_NOTFOUND ? -ENOENT : lmdb_error(cursor->rc);
}

int view_seek(struct view *view, MDB_dbi table, const MDB_val *from, struct view_cursor *cursor,
              MDB_val *key, MDB_val *value)
{
    *cursor = (struct view_cursor){0};
    int rc = mdb_cursor_open(view->txn, table, &cursor->committed);
    if (rc != 0)
        return lmdb_error(rc);
    cursor->key = *from;
    cursor->rc = guard_cursor_get(cursor->committed, &cursor->key, &cursor->value, MDB_SET_RANGE);
    for (int i = 0; i < VIEW_LAYERS && view->layers[i] != NULL; i++)
        cursor->changes[i] = layer_from(view->layers[i], table, from);
    return show(cursor, key, value);
}

int view_next(struct view_cursor *cursor, MDB_val *key, MDB_val *value)
{
    return show(cursor, key, value);
}

void view_cursor_close(struct view_cursor *cursor)
{
    if (cursor->committed != NULL)
        mdb_cursor_close(cursor->committed);
    cursor->committed = NULL;
}
