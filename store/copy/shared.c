/* SPDX-License-Identifier: BSD-2-Clause */
#include "shared.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const struct shared *one = a, *other = b;
    if (one->device != other->device)
        return one->device < other->device ? -1 : 1;
    return one->number == other->number ? 0 : one->number < other->number ? -1 : 1;
}

struct shared *shared_find(const struct shared_set *set, uint64_t device, uint64_t number)
{
    const struct shared wanted = {.device = device, .number = number};
    struct shared **found = tfind(&wanted, &set->root, compare);
    return found == NULL ? NULL : *found;
}

struct shared *shared_add(struct shared_set *set, uint64_t device, uint64_t number,
                          struct walk_dir *dir, const char *name)
{
    size_t size = strlen(name) + 1;
    struct shared *shared = calloc(1, sizeof(*shared) + size);
    if (shared == NULL)
        return NULL;
    shared->device = device;
    shared->number = number;
    memcpy(shared->name, name, size);
    if (tsearch(shared, &set->root, compare) == NULL) {
        free(shared);
        return NULL;
    }
    shared->dir = dir == NULL ? NULL : walk_hold(dir);
    return shared;
}

static void release(void *p)
{
    struct shared *shared = p;
    walk_release(shared->dir);
    free(shared);
}

void shared_remove(struct shared_set *set, struct shared *shared)
{
    tdelete(shared, &set->root, compare);
    release(shared);
}

void shared_free(struct shared_set *set)
{
    tdestroy(set->root, release);
    set->root = NULL;
}
