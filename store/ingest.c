/* SPDX-License-Identifier: BSD-2-Clause */
#include "ingest.h"

#include "keeper.h"
#include "meta.h"
#include "orphan.h"

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

static int write_step(struct view *view, void *arg)
{
    struct step *step = arg;
    struct progress *now = &step->after;
    now->content = step->before.content;
    now->offset = step->before.offset;
    XXH3_copyState(now->hash, step->before.hash);
    int r = 0;
    if (now->content == 0) {
        now->content = meta_new_ids(step->store, 1);
        r = orphan_add(step->store, view, now->content, LAYOUT_ORPHAN_CONTENT);
    }
    if (r == 0)
        r = content_write(step->store, view, now->content, step->payload, now->offset, now->hash,
                          &now->offset);
    return r;
}

int ingest_room(struct store *store, uint64_t bytes)
{
    return store_room_promised(store, bytes < content_step(store) ? bytes : content_step(store));
}

static int write_steps(struct step *step)
{
    int r = 0;
    while (r == 0 && step->before.offset < step->payload->size) {
        r = ingest_room(step->store, step->payload->size - step->before.offset);
        if (r == 0)
            r = store_transact(step->store, write_step, step, content_step(step->store));
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

int ingest_adopt(struct store *store, struct view *view, uint64_t content, uint64_t size,
                 const uint8_t hash[16])
{
    int r = content_enter(store, view, content, size, hash);
    return r < 0 ? r : orphan_remove(store, view, content);
}
