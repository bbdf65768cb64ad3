/* SPDX-License-Identifier: BSD-2-Clause */
/* publish.c: a tree that is about to leave staging: every file in it is sealed. */
#include <sys/stat.h>

#include "record.h"
#include "seal.h"

/* Names of a directory that are listed at a time: their number must not decide what it takes. */
#define PUBLISH_NAMES 256

/* Where the listing of a directory goes on. */
struct place {
    uint64_t directory;
    off_t cursor;
};

struct publish {
    struct store *store;
    struct place *places; /* directories that are not done, the innermost last */
    size_t depth, room;
    uint64_t files[PUBLISH_NAMES];
    size_t file_count, names;
    uint64_t file; /* for release_held() */
    bool no_memory;
    store_seal_fn *seal; /* may be NULL */
    void *arg;
};

static bool push(struct publish *publish, uint64_t directory)
{
    if (make_room(&publish->places, &publish->room, publish->depth, sizeof(*publish->places)) < 0)
        return false;
    publish->places[publish->depth++] = (struct place){directory, 0};
    return true;
}

/* What a listing stops at is listed again. */
struct listing {
    struct publish *publish;
    size_t here; /* in publish->places */
};

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    (void)name, (void)attr;
    struct listing *listing = arg;
    struct publish *publish = listing->publish;
    if (publish->names == PUBLISH_NAMES)
        return false;
    if (S_ISREG(type))
        publish->files[publish->file_count++] = id;
    else if (S_ISDIR(type))
        publish->no_memory |= !push(publish, id);
    publish->names++;
    publish->places[listing->here].cursor = next;
    return !publish->no_memory;
}

static int release_held(struct view *view, void *arg)
{
    struct publish *publish = arg;
    struct layout_record record;
    int r = record_get(publish->store, view, publish->file, &record, NULL);
    if (r < 0 || !record_is_open(&record))
        return r;
    record.flags = (uint8_t)((record.flags & ~LAYOUT_HELD) | RECORD_ARRIVED);
    return record_update(publish->store, view, publish->file, &record);
}

static int seal_one(struct publish *publish, uint64_t id)
{
    if (publish->seal != NULL)
        return publish->seal(publish->arg, id);
    int r = store_seal(publish->store, id);
    if (r == 0)
        seal_tell(publish->store, id);
    return r;
}

static int publish_file(struct publish *publish, uint64_t id)
{
    struct store *store = publish->store;
    int r = seal_one(publish, id);
    if (r != -EBUSY)
        return r;
    publish->file = id;
    r = store_change(store, release_held, publish);
    if (r < 0)
        return r;
    /* A writer that let go before that found it held, and left the sealing to us. */
    r = seal_one(publish, id);
    return r == -EBUSY ? 0 : r;
}

static int publish_files(struct publish *publish)
{
    int r = 0;
    for (size_t i = 0; i < publish->file_count && (r == 0 || r == -ENOENT); i++)
        r = publish_file(publish, publish->files[i]);
    return r == -ENOENT ? 0 : r;
}

/* The next names of the innermost directory; at its end it is done. */
static int publish_some(struct publish *publish)
{
    struct listing listing = {publish, publish->depth - 1};
    struct place place = publish->places[listing.here];
    publish->file_count = publish->names = 0;
    int r = store_readdir(publish->store, place.directory, place.cursor, false, note, &listing);
    if (publish->no_memory)
        return -ENOMEM;
    if (r < 0 && r != -ENOENT)
        return r;
    if (publish->names == 0)
        publish->depth--;
    return publish_files(publish);
}

static int publish_all(struct publish *publish, uint64_t id)
{
    int r = push(publish, id) ? 0 : -ENOMEM;
    while (r == 0 && publish->depth > 0)
        r = publish_some(publish);
    return r;
}

int store_publish_tree(struct store *store, uint64_t id, store_seal_fn *seal, void *arg)
{
    struct store_attr attr;
    int r = store_getattr(store, id, &attr);
    if (r < 0)
        return r;
    struct publish publish = {.store = store, .seal = seal, .arg = arg};
    if (S_ISDIR(attr.mode))
        r = publish_all(&publish, id);
    else if (S_ISREG(attr.mode))
        r = publish_file(&publish, id);
    free(publish.places);
    return r == -ENOENT ? 0 : r;
}
