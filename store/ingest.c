/* SPDX-License-Identifier: BSD-2-Clause */
#include "ingest.h"

#include <fcntl.h>

#include "keeper.h"
#include "meta.h"
#include "orphan.h"
#include "record.h"
#include "staging.h"

/* ---------------------------------------------------------------- content -- */

/* A change may run again, so each step starts from `before` and ends in `after`. */
struct progress {
    uint64_t content; /* 0: no id yet */
    uint64_t offset;
    XXH3_state_t *hash;
};

struct step {
    struct store *store;
    const struct payload *payload;
    struct progress before, after;
    ingest_fn *watch;
    void *arg;
};

static int write_step(MDB_txn *txn, void *arg)
{
    struct step *step = arg;
    struct progress *now = &step->after;
    now->content = step->before.content;
    now->offset = step->before.offset;
    XXH3_copyState(now->hash, step->before.hash);
    int r = 0;
    if (now->content == 0)
        r = meta_new_id(step->store, txn, &now->content);
    if (r == 0 && step->before.content == 0)
        r = orphan_add(step->store, txn, now->content, LAYOUT_ORPHAN_CONTENT);
    if (r == 0)
        r = content_write(step->store, txn, now->content, step->payload, now->offset, now->hash,
                          &now->offset);
    return r;
}

int ingest_room(struct store *store, uint64_t bytes)
{
    return store_room(store, bytes < content_step(store) ? bytes : content_step(store));
}

static int write_steps(struct step *step)
{
    int r = 0;
    while (r == 0 && step->before.offset < step->payload->size) {
        r = ingest_room(step->store, step->payload->size - step->before.offset);
        if (r == 0)
            r = store_change(step->store, write_step, step, content_step(step->store));
        if (r == 0) {
            struct progress done = step->after;
            step->after = step->before;
            step->before = done;
        }
        if (r == 0 && step->watch != NULL && !step->watch(step->arg, step->before.offset))
            r = -EINTR;
    }
    return r;
}

int ingest_content(struct store *store, const struct payload *payload, ingest_fn *watch, void *arg,
                   uint64_t *content, uint8_t hash[16])
{
    struct step step = {.store = store, .payload = payload, .watch = watch, .arg = arg};
    step.before.hash = XXH3_createState();
    step.after.hash = XXH3_createState();
    int r = -ENOMEM;
    if (step.before.hash != NULL && step.after.hash != NULL) {
        XXH3_128bits_reset(step.before.hash);
        r = write_steps(&step);
    }
    if (r == 0) {
        *content = step.before.content;
        hash_finish(step.before.hash, hash);
    } else {
        ingest_abandon(store, step.before.content);
    }
    XXH3_freeState(step.before.hash);
    XXH3_freeState(step.after.hash);
    return r;
}

void ingest_abandon(struct store *store, uint64_t content)
{
    if (content != 0)
        keeper_reap(store->keeper, content);
}

int ingest_adopt(struct store *store, MDB_txn *txn, uint64_t content, uint64_t size,
                 const uint8_t hash[16])
{
    int r = content_enter(store, txn, content, size, hash);
    return r < 0 ? r : orphan_remove(store, txn, content);
}

/* ------------------------------------------------------------ staged file -- */

struct finish {
    struct store *store;
    uint64_t id;
    struct stat st; /* of the host file */
    uint64_t size, content;
    const char *payload; /* if content is 0 */
    uint8_t hash[16];
};

static int finish_staged(MDB_txn *txn, void *arg)
{
    struct finish *finish = arg;
    struct layout_record record;
    int r = record_get(finish->store, txn, finish->id, &record, NULL);
    if (r < 0)
        return r;
    if (record.place != LAYOUT_STAGED)
        return -ESTALE;
    /* Times set since the bytes were read are in the host file, and only this thread sets them. */
    if (staging_stat(finish->store, finish->id, &finish->st) == 0) {
        record.atime = layout_time(finish->st.st_atim);
        record.mtime = layout_time(finish->st.st_mtim);
        record.ctime = layout_now();
    }
    record.place = finish->content != 0 ? LAYOUT_EXTENTS : LAYOUT_INLINE;
    record.flags &= (uint8_t)~LAYOUT_HELD;
    record.size = finish->size;
    record.link = finish->content;
    memcpy(record.hash, finish->hash, sizeof(record.hash));
    if (finish->content != 0)
        r = ingest_adopt(finish->store, txn, finish->content, finish->size, finish->hash);
    return r < 0 ? r : record_replace(finish->store, txn, finish->id, &record, finish->payload);
}

static int finish_inline(struct finish *finish, const struct payload *payload)
{
    char bytes[LAYOUT_INLINE_LIMIT];
    int r = payload_read(payload, 0, bytes, finish->size);
    if (r < 0)
        return r;
    hash_bytes(bytes, finish->size, finish->hash);
    finish->payload = bytes;
    return store_change(finish->store, finish_staged, finish, finish->size);
}

static int finish_extents(struct finish *finish, const struct payload *payload)
{
    int r = ingest_content(finish->store, payload, NULL, NULL, &finish->content, finish->hash);
    if (r < 0)
        return r;
    r = store_change(finish->store, finish_staged, finish, 0);
    if (r < 0)
        ingest_abandon(finish->store, finish->content);
    return r;
}

int ingest_staged(struct store *store, uint64_t id)
{
    cleanup_fd int fd = staging_open(store, id, O_RDONLY);
    struct stat st = {0};
    if (fd < 0 && fd != -ENOENT)
        return fd;
    if (fd >= 0 && fstat(fd, &st) < 0)
        return -errno;

    struct finish finish = {.store = store, .id = id, .size = (uint64_t)st.st_size};
    struct payload payload = {.fd = fd, .size = finish.size};
    int r = finish.size <= store->inline_max ? finish_inline(&finish, &payload)
                                             : finish_extents(&finish, &payload);
    if (r < 0)
        return r == -ESTALE ? 0 : r;
    r = staging_remove(store, id);
    if (r < 0)
        store_warn(store, "cannot remove staging file %016llx of a sealed record: %s",
                   (unsigned long long)id, strerror(-r));
    return 0;
}
