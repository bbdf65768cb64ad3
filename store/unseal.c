/* SPDX-License-Identifier: BSD-2-Clause */
#include "unseal.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include "extent.h"
#include "orphan.h"
#include "record.h"
#include "staging.h"
#include "sweep.h"

/* The last files that were brought back: a slot for each. */
#define SLOTS 1024

/* Bytes that are brought back at a time. */
#define PIECE ((size_t)128 << 10)

struct unsealed {
    pthread_mutex_t lock; /* two writers bring a file back once */
    _Atomic uint64_t slots[SLOTS];
};

struct unsealed *unsealed_new(void)
{
    struct unsealed *unsealed = calloc(1, sizeof(*unsealed));
    if (unsealed != NULL)
        pthread_mutex_init(&unsealed->lock, NULL);
    return unsealed;
}

void unsealed_free(struct unsealed *unsealed)
{
    if (unsealed == NULL)
        return;
    pthread_mutex_destroy(&unsealed->lock);
    free(unsealed);
}

bool unsealed_lately(struct store *store, uint64_t id)
{
    return atomic_load(&store->unsealed_files->slots[id % SLOTS]) == id;
}

struct reopening {
    struct store *store;
    uint64_t id;
    const struct layout_record *expected;
};

/* Nobody leads to its extents any more; who is reading them has a lease, see read.c. */
static int leave_content(const struct reopening *reopening, struct view *view)
{
    struct store *store = reopening->store;
    const struct layout_record *record = reopening->expected;
    int r = content_leave(store, view, record->link, record->size, record->hash);
    return r < 0 && r != -ENOENT ? r : orphan_add(store, view, record->link, LAYOUT_ORPHAN_CONTENT);
}

static int reopen_change(struct view *view, void *arg)
{
    struct reopening *reopening = arg;
    struct layout_record record;
    int r = record_get(reopening->store, view, reopening->id, &record, NULL);
    if (r < 0 || record_is_open(&record))
        return r;
    if (record.size > 0 && (record.flags & LAYOUT_HELD) == 0) /* moved out meanwhile */
        return -EPERM;
    if (record.place == LAYOUT_EXTENTS)
        r = leave_content(reopening, view);
    record.flags |= record.size > 0 ? RECORD_ARRIVED : 0; /* what was durable stays durable */
    record.place = LAYOUT_STAGED;
    record.size = record.link = 0;
    memset(record.hash, 0, sizeof(record.hash));
    return r < 0 ? r : record_replace(reopening->store, view, reopening->id, &record, NULL);
}

static int copy_bytes(struct store *store, uint64_t id, uint64_t size)
{
    cleanup_free char *buffer = malloc(PIECE);
    if (buffer == NULL)
        return -ENOMEM;
    int r = staging_truncate(store, id, 0); /* what a crash left there */
    for (uint64_t done = 0; done < size && r == 0;) {
        size_t piece = size - done < PIECE ? (size_t)(size - done) : PIECE;
        ssize_t n = store_read(store, id, buffer, piece, (off_t)done);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        r = staging_write(store, id, buffer, (size_t)n, (off_t)done);
        done += (size_t)n;
    }
    return r;
}

static int bring_back(struct store *store, uint64_t id, const struct layout_record *record,
                      uint64_t keep)
{
    const struct timespec times[2] = {layout_timespec(record->atime),
                                      layout_timespec(record->mtime)};
    struct reopening reopening = {store, id, record};
    if (keep > record->size)
        keep = record->size;
    int r = store_room(store, keep);
    if (r == 0 && record->size > 0)
        r = copy_bytes(store, id, keep);
    if (r == 0 && record->size > 0)
        r = staging_times(store, id, times);
    if (r == 0)
        r = store_change(store, reopen_change, &reopening);
    if (r < 0 && record->size > 0)
        (void)staging_remove(store, id);
    if (r == 0 && record->size > 0)
        atomic_store(&store->unsealed_files->slots[id % SLOTS], id);
    return r;
}

/* 1: it takes bytes already. */
static int look(struct store *store, uint64_t id, struct layout_record *record)
{
    int r = record_look(store, id, record);
    if (r < 0)
        return r;
    if (!S_ISREG(record->mode))
        return S_ISDIR(record->mode) ? -EISDIR : -EINVAL;
    if (record_is_open(record))
        return 1;
    return record->size == 0 || (record->flags & LAYOUT_HELD) ? 0 : -EPERM;
}

int unseal(struct store *store, uint64_t id, uint64_t keep)
{
    struct layout_record record;
    int r = look(store, id, &record);
    if (r != 0)
        return r < 0 ? r : 0;
    if (record.size > 0)
        sweep_wait(store, id);
    with_mutex(&store->unsealed_files->lock);
    r = look(store, id, &record);
    /* The commit takes the bytes from where they would be brought back to. */
    while (r == 0 && (record.flags & (RECORD_FINAL | RECORD_HOSTED))) {
        r = store_sync(store);
        if (r == 0)
            r = look(store, id, &record);
    }
    if (r == 0)
        r = bring_back(store, id, &record, keep);
    return r < 0 ? r : 0;
}
