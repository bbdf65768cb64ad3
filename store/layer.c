/* SPDX-License-Identifier: BSD-2-Clause */
#include "layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int layer_compare(const MDB_val *a, const MDB_val *b)
{
    int order = memcmp(a->mv_data, b->mv_data, a->mv_size < b->mv_size ? a->mv_size : b->mv_size);
    return order != 0 ? order : (a->mv_size > b->mv_size) - (a->mv_size < b->mv_size);
}

static int compare(const struct layer_change *a, const struct layer_change *b)
{
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    return layer_compare(&a->key, &b->key);
}

RB_GENERATE(layer_changes, layer_change, link, compare)

static size_t bytes_of(const struct layer_change *change)
{
    return sizeof(*change) + change->key.mv_size + change->value.mv_size;
}

static void drop(struct layer *layer, struct layer_change *change)
{
    RB_REMOVE(layer_changes, &layer->changes, change);
    layer->bytes -= bytes_of(change);
    free(change);
}

/* In place of what there was for its key. */
static void enter(struct layer *layer, struct layer_change *change)
{
    struct layer_change *old = RB_INSERT(layer_changes, &layer->changes, change);
    if (old != NULL) {
        drop(layer, old);
        RB_INSERT(layer_changes, &layer->changes, change);
    }
    layer->bytes += bytes_of(change);
}

static struct layer_change *add(struct layer *layer, MDB_dbi table, const MDB_val *key, size_t size)
{
    struct layer_change *change = malloc(sizeof(*change) + key->mv_size + size);
    if (change == NULL)
        return NULL;
    change->table = table;
    change->key = (MDB_val){key->mv_size, change->bytes};
    memcpy(change->bytes, key->mv_data, key->mv_size);
    change->value = (MDB_val){size, change->bytes + key->mv_size};
    enter(layer, change);
    return change;
}

int layer_put(struct layer *layer, MDB_dbi table, const MDB_val *key, size_t size, void **value)
{
    struct layer_change *change = add(layer, table, key, size);
    if (change == NULL)
        return -ENOMEM;
    change->removed = false;
    *value = change->value.mv_data;
    return 0;
}

int layer_remove(struct layer *layer, MDB_dbi table, const MDB_val *key)
{
    struct layer_change *change = add(layer, table, key, 0);
    if (change == NULL)
        return -ENOMEM;
    change->removed = true;
    return 0;
}

struct layer_change *layer_find(const struct layer *layer, MDB_dbi table, const MDB_val *key)
{
    struct layer_change wanted = {.table = table, .key = *key};
    return RB_FIND(layer_changes, (struct layer_changes *)&layer->changes, &wanted);
}

struct layer_change *layer_first(const struct layer *layer, MDB_dbi table)
{
    char nothing = 0;
    const MDB_val least = {0, &nothing};
    return layer_from(layer, table, &least);
}

struct layer_change *layer_from(const struct layer *layer, MDB_dbi table, const MDB_val *key)
{
    struct layer_change wanted = {.table = table, .key = *key};
    struct layer_change *found =
        RB_NFIND(layer_changes, (struct layer_changes *)&layer->changes, &wanted);
    return found != NULL && found->table == table ? found : NULL;
}

struct layer_change *layer_next(struct layer_change *change)
{
    struct layer_change *next = RB_NEXT(layer_changes, NULL, change);
    return next != NULL && next->table == change->table ? next : NULL;
}

void layer_merge(struct layer *layer, struct layer *newer)
{
    struct layer_change *change, *next;
    RB_FOREACH_SAFE(change, layer_changes, &newer->changes, next)
    {
        RB_REMOVE(layer_changes, &newer->changes, change);
        enter(layer, change);
    }
    newer->bytes = 0;
}

void layer_clear(struct layer *layer)
{
    struct layer_change *change, *next;
    RB_FOREACH_SAFE(change, layer_changes, &layer->changes, next)
    drop(layer, change);
}
