/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layer.h: changes of keys, in memory, in the order of LMDB's tables: what is put over a table to
 * see it as it will be.
 *
 * For each key that was changed a layer has its last value, or that it was removed. Not
 * thread-safe.
 */
#ifndef STORE_LAYER_H
#define STORE_LAYER_H

#include <bsd/sys/tree.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stddef.h>

struct layer_change {
    RB_ENTRY(layer_change) link;
    MDB_dbi table;
    bool removed;
    MDB_val key, value; /* in `bytes`; no value if removed */
    char bytes[];
};

RB_HEAD(layer_changes, layer_change);

/* Starts as {0}. */
struct layer {
    struct layer_changes changes;
    size_t bytes; /* of memory */
};

/* As LMDB compares keys: below, at or above 0. */
int layer_compare(const MDB_val *a, const MDB_val *b);

/* Give `key` a value of `size` bytes, which the caller writes to *value before the next call.
 * -ENOMEM: nothing has changed. */
int layer_put(struct layer *layer, MDB_dbi table, const MDB_val *key, size_t size, void **value);
int layer_remove(struct layer *layer, MDB_dbi table, const MDB_val *key);

/* NULL: the layer says nothing of the key. */
struct layer_change *layer_find(const struct layer *layer, MDB_dbi table, const MDB_val *key);

/* The first one of the table; from `key` on; the next one of the same table. NULL: none. */
struct layer_change *layer_first(const struct layer *layer, MDB_dbi table);
struct layer_change *layer_from(const struct layer *layer, MDB_dbi table, const MDB_val *key);
struct layer_change *layer_next(struct layer_change *change);

static inline bool layer_empty(const struct layer *layer)
{
    return RB_EMPTY(&layer->changes);
}

/* Every change, table after table. */
#define layer_each(change, layer) \
    RB_FOREACH(change, layer_changes, (struct layer_changes *)&(layer)->changes)

/* Move the changes of `newer` over those of `layer`. It is empty then. */
void layer_merge(struct layer *layer, struct layer *newer);

void layer_clear(struct layer *layer);

/* The generated functions, for layer_each(). */
RB_PROTOTYPE(layer_changes, layer_change, link, unused)

#endif
