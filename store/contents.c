/* SPDX-License-Identifier: BSD-2-Clause */
/* contents.c: the contents of many small files at once, for who sends them ahead of the asking. */
#include <sys/stat.h>

#include "extent.h"
#include "record.h"
#include "verify.h"

/* Files that one transaction looks up, and bytes that are held at a time. */
#define GROUP_FILES 64
#define GROUP_BYTES ((size_t)128 << 10)

struct piece {
    uint64_t id;
    size_t at, size; /* in the buffer */
    bool outside;    /* not read yet: in `span` */
    struct layout_record record;
    struct span span;
};

struct store_group {
    struct store *store;
    size_t most; /* bytes of a file */
    size_t used; /* of the buffer */
    struct piece pieces[GROUP_FILES];
    size_t count;
    char buffer[GROUP_BYTES];
};

/* Add one file, if it is one. 1: it does not fit any more. What is damaged is left to who reads it,
 * and gets told. */
static int add(struct store_group *group, struct view *view, uint64_t id)
{
    struct piece *piece = &group->pieces[group->count];
    MDB_val payload;
    int r = record_get(group->store, view, id, &piece->record, &payload);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    const struct layout_record *record = &piece->record;
    if (!S_ISREG(record->mode) || record->place == LAYOUT_STAGED || (record->flags & LAYOUT_HELD) ||
        record->size == 0 || record->size > group->most)
        return 0;
    if (group->used + record->size > GROUP_BYTES)
        return 1;
    piece->id = id;
    piece->at = group->used;
    piece->size = record->size;
    piece->outside = record->place == LAYOUT_EXTENTS;
    if (piece->outside) {
        int n = content_locate(group->store, view, record->link, record->size, 0, record->size,
                               &piece->span, 1);
        if (n != 1 || piece->span.length != record->size)
            return n < 0 ? n : 0;
    } else {
        if (!verify_inline(group->store, record, &payload))
            return 0;
        memcpy(group->buffer + piece->at, payload.mv_data, piece->size);
    }
    group->used += piece->size;
    group->count++;
    return 0;
}

/* Look up as many as fit: how many of the ids are done with. */
static ssize_t gather(struct store_group *group, const uint64_t *ids, size_t count)
{
    cleanup_view struct view view = {0};
    int r = view_open_committed(group->store, &view);
    size_t i = 0;
    group->used = group->count = 0;
    while (r == 0 && i < count && group->count < GROUP_FILES) {
        r = add(group, &view, ids[i]);
        if (r == 0)
            i++;
    }
    return r < 0 ? r : (ssize_t)i;
}

static bool hand_over(struct store_group *group, store_content_fn *each, void *arg)
{
    for (size_t i = 0; i < group->count; i++) {
        struct piece *piece = &group->pieces[i];
        char *bytes = group->buffer + piece->at;
        if (piece->outside && verify_read(group->store, piece->id, &piece->record, &piece->span,
                                          bytes, piece->size) < 0)
            continue;
        if (!each(arg, piece->id, bytes, piece->size))
            return false;
    }
    return true;
}

struct store_group *store_group_new(struct store *store)
{
    struct store_group *group = malloc(sizeof(*group));
    if (group != NULL)
        group->store = store;
    return group;
}

void store_group_free(struct store_group *group)
{
    free(group);
}

int store_contents(struct store_group *group, const uint64_t *ids, size_t count, size_t most,
                   store_content_fn *each, void *arg)
{
    group->most = most < GROUP_BYTES ? most : GROUP_BYTES;
    for (size_t done = 0; done < count;) {
        ssize_t n = gather(group, ids + done, count - done);
        if (n < 0)
            return (int)n;
        done += (size_t)n;
        if (!hand_over(group, each, arg))
            return 0;
    }
    return 0;
}
