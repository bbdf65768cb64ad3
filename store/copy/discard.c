/* SPDX-License-Identifier: BSD-2-Clause */
/* discard.c: a tree of the store is removed, from its leaves up, with the names on the way in
 * memory: as many as it is deep. */
#include <string.h>
#include <sys/stat.h>

#include "private.h"

struct level {
    uint64_t id;                   /* a directory, */
    char name[STORE_NAME_MAX + 1]; /* which has this name in the one above */
};

struct discard {
    struct store *store;
    struct level *levels; /* the innermost last */
    size_t depth, room;
};

/* The first entry of a listing. */
struct first {
    char name[STORE_NAME_MAX + 1]; /* "": there is none */
    uint64_t id;
    mode_t type;
};

static bool note_first(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                       const struct store_attr *attr)
{
    (void)next, (void)attr;
    struct first *first = arg;
    if (first->name[0] != '\0')
        return false;
    strcpy(first->name, name);
    first->id = id;
    first->type = type;
    return true;
}

static int enter(struct discard *discard, uint64_t id, const char *name)
{
    int r = make_room(&discard->levels, &discard->room, discard->depth, sizeof(*discard->levels));
    if (r < 0)
        return r;
    struct level *level = &discard->levels[discard->depth++];
    level->id = id;
    strcpy(level->name, name);
    return 0;
}

/* The directory is empty. */
static int leave(struct discard *discard, uint64_t parent)
{
    const struct level *level = &discard->levels[--discard->depth];
    return store_rmdir(discard->store,
                       discard->depth > 0 ? discard->levels[discard->depth - 1].id : parent,
                       level->name);
}

static int discard_tree(struct discard *discard, uint64_t parent)
{
    int r = 0;
    while (r == 0 && discard->depth > 0) {
        uint64_t here = discard->levels[discard->depth - 1].id;
        struct first first = {.name = ""};
        r = store_readdir(discard->store, here, 0, false, note_first, &first);
        if (r < 0)
            break;
        if (first.name[0] == '\0')
            r = leave(discard, parent);
        else if (S_ISDIR(first.type))
            r = enter(discard, first.id, first.name);
        else
            r = store_unlink(discard->store, here, first.name);
    }
    return r;
}

int store_discard(struct store *store, uint64_t parent, const char *name)
{
    struct store_attr attr;
    int r = store_lookup(store, parent, name, &attr);
    if (r < 0)
        return r;
    if (!S_ISDIR(attr.mode))
        return store_unlink(store, parent, name);
    struct discard discard = {.store = store};
    r = enter(&discard, attr.id, name);
    if (r == 0)
        r = discard_tree(&discard, parent);
    free(discard.levels);
    return r;
}
