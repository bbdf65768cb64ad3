/* SPDX-License-Identifier: BSD-2-Clause */
#include "sweep.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "keeper.h"
#include "meta.h"
#include "record.h"
#include "seal.h"
#include "staging.h"
#include "tree.h"

/* Files that are released in one change. */
#define FILES_AT_ONCE 64

/* What who moves a tree does himself, which takes him a millisecond or two: most trees have no more
 * files than that, and few directories. */
#define QUICK_FILES 256
#define QUICK_STEPS 64

/* Where the listing of a directory goes on. */
struct place {
    uint64_t directory;
    off_t cursor;
};

/* A tree whose files are being released. */
struct sweep {
    uint64_t top;
    uint64_t limit;       /* ids from here on can't be in it: they are younger than the move */
    struct place *places; /* from the top down to where we are */
    size_t depth, room;
    struct sweep *next;
};

struct sweeps {
    pthread_mutex_t working; /* who sweeps */
    pthread_mutex_t lock;    /* guards the rest; taken last */
    pthread_cond_t ended;
    struct sweep *first; /* what is to be done, in order */
    bool alone;          /* the store has no users yet who could be told */
    bool stop;
};

struct sweeps *sweeps_new(void)
{
    struct sweeps *sweeps = calloc(1, sizeof(*sweeps));
    if (sweeps != NULL) {
        pthread_mutex_init(&sweeps->working, NULL);
        pthread_mutex_init(&sweeps->lock, NULL);
        pthread_cond_init(&sweeps->ended, NULL);
    }
    return sweeps;
}

static void sweep_free(struct sweep *sweep)
{
    free(sweep->places);
    free(sweep);
}

void sweeps_free(struct sweeps *sweeps)
{
    if (sweeps == NULL)
        return;
    while (sweeps->first != NULL) {
        struct sweep *sweep = sweeps->first;
        sweeps->first = sweep->next;
        sweep_free(sweep);
    }
    pthread_cond_destroy(&sweeps->ended);
    pthread_mutex_destroy(&sweeps->lock);
    pthread_mutex_destroy(&sweeps->working);
    free(sweeps);
}

static bool push(struct sweep *sweep, uint64_t directory)
{
    if (make_room(&sweep->places, &sweep->room, sweep->depth, sizeof(*sweep->places)) < 0)
        return false;
    sweep->places[sweep->depth++] = (struct place){directory, 0};
    return true;
}

static int add(struct store *store, uint64_t top, uint64_t limit)
{
    struct sweep *sweep = calloc(1, sizeof(*sweep));
    if (sweep == NULL || !push(sweep, top)) {
        free(sweep);
        return -ENOMEM;
    }
    sweep->top = top;
    sweep->limit = limit;
    with_mutex(&store->sweeps->lock);
    struct sweep **last = &store->sweeps->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = sweep;
    return 0;
}

static struct sweep *first(struct sweeps *sweeps)
{
    with_mutex(&sweeps->lock);
    return sweeps->stop ? NULL : sweeps->first;
}

/* ------------------------------------------------------------------ settling -- */

static bool is_held_open(struct store *store, uint64_t id)
{
    struct layout_record record;
    return record_look(store, id, &record) == 0 && record_is_open(&record) &&
           (record.flags & LAYOUT_HELD);
}

int store_settle_staged(struct store *store, store_seal_fn *seal, void *arg)
{
    cleanup_free uint64_t *ids = NULL;
    size_t count = 0;
    int r = store->read_only ? -EROFS : staging_list(store, &ids, &count);
    for (size_t i = 0; i < count && r == 0; i++) {
        if (!is_held_open(store, ids[i]))
            continue;
        r = seal == NULL ? store_seal(store, ids[i]) : seal(arg, ids[i]);
        if (r == -EBUSY || r == -ENOENT)
            r = 0;
    }
    return r;
}

/* -------------------------------------------------------------------- moving -- */

/* Files that are being written, wherever in staging: nobody knows which directory a file is in. */
static int make_durable(struct store *store, struct view *view)
{
    cleanup_free uint64_t *ids = NULL;
    size_t count = 0;
    int r = staging_list(store, &ids, &count);
    for (size_t i = 0; i < count && r == 0; i++) {
        struct layout_record record;
        r = record_get(store, view, ids[i], &record, NULL);
        if (r == 0 && record_is_open(&record) && (record.flags & LAYOUT_HELD)) {
            record.flags |= RECORD_ARRIVED;
            r = record_update(store, view, ids[i], &record);
        }
        if (r == -ENOENT)
            r = 0;
    }
    return r;
}

int sweep_moved(struct store *store, struct view *view, uint64_t id, uint64_t from, uint64_t to)
{
    int from_staging = tree_is_below(store, view, from, STORE_STAGING_ID);
    int to_staging = tree_is_below(store, view, to, STORE_STAGING_ID);
    if (from_staging < 0 || to_staging < 0)
        return from_staging < 0 ? from_staging : to_staging;
    /* A part of a tree that is being swept, moved elsewhere, would not be found there. */
    bool escapes = first(store->sweeps) != NULL;
    if (to_staging || !(from_staging || escapes))
        return 0;
    uint64_t limit = atomic_load(&store->next_id);
    int r = from_staging ? make_durable(store, view) : 0;
    if (r == 0)
        r = meta_mark(store, view, id, limit);
    return r == 0 ? add(store, id, limit) : r;
}

/* ------------------------------------------------------------------ releasing -- */

/* The next names of a directory. A subdirectory is entered where it is met, so that what is
 * remembered depends on the depth of the tree only. */
struct step {
    struct store *store;
    struct sweep *sweep;
    uint64_t files[FILES_AT_ONCE];
    size_t count;
    uint64_t below;               /* a directory to go down to; 0: none */
    off_t next;                   /* where the listing goes on */
    bool more;                    /* it does */
    uint64_t open[FILES_AT_ONCE]; /* files that are released, and not sealed */
    uint64_t done[FILES_AT_ONCE]; /* those that are final now */
    size_t open_count, done_count;
    bool back; /* the tree is in staging again */
};

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    (void)name, (void)attr;
    struct step *step = arg;
    step->more = step->below != 0 || step->count == FILES_AT_ONCE;
    if (step->more)
        return false;
    if (S_ISREG(type))
        step->files[step->count++] = id;
    else if (S_ISDIR(type))
        step->below = id;
    step->next = next;
    return true;
}

static int release(struct step *step, struct view *view, uint64_t id)
{
    struct layout_record record;
    int r = record_get(step->store, view, id, &record, NULL);
    if (r < 0 || (record.flags & LAYOUT_HELD) == 0)
        return r == -ENOENT ? 0 : r;
    bool open = record_is_open(&record);
    record.flags = (uint8_t)((record.flags & ~LAYOUT_HELD) | (open ? RECORD_ARRIVED : 0));
    if (open)
        step->open[step->open_count++] = id;
    else
        step->done[step->done_count++] = id;
    return record_update(step->store, view, id, &record);
}

static int release_all(struct view *view, void *arg)
{
    struct step *step = arg;
    step->open_count = step->done_count = 0;
    int staging = tree_is_below(step->store, view, step->sweep->top, STORE_STAGING_ID);
    step->back = staging == 1;
    if (staging != 0)
        return staging == -ENOENT || staging > 0 ? 0 : staging;
    int r = 0;
    for (size_t i = 0; i < step->count && r == 0; i++)
        r = release(step, view, step->files[i]);
    return r;
}

static void tell(struct step *step)
{
    struct store *store = step->store;
    if (store->sweeps->alone)
        return; /* what is open is sealed by store_recover() */
    for (size_t i = 0; i < step->done_count; i++)
        seal_tell(store, step->done[i]);
    for (size_t i = 0; i < step->open_count; i++) {
        if (store->unsealed != NULL)
            store->unsealed(store->arg, step->open[i]);
        else if (store_seal(store, step->open[i]) == 0)
            seal_tell(store, step->open[i]);
    }
}

static int end_change(struct view *view, void *arg)
{
    struct step *step = arg;
    int r = meta_unmark(step->store, view, step->sweep->top);
    return r == -ENOENT ? 0 : r;
}

static void end(struct sweeps *sweeps, struct sweep *sweep)
{
    {
        with_mutex(&sweeps->lock);
        struct sweep **at = &sweeps->first;
        while (*at != sweep)
            at = &(*at)->next;
        *at = sweep->next;
        pthread_cond_broadcast(&sweeps->ended);
    }
    sweep_free(sweep);
}

/* 1: there is more; 0: it was the last. */
static int run_step(struct step *step)
{
    struct sweep *sweep = step->sweep;
    struct place *place = &sweep->places[sweep->depth - 1];
    step->next = place->cursor;
    int r = store_readdir(step->store, place->directory, place->cursor, false, note, step);
    if (r < 0 && r != -ENOENT)
        return r;
    place->cursor = step->next;
    r = step->count > 0 ? store_change(step->store, release_all, step) : 0;
    if (r < 0)
        return r;
    tell(step);
    if (step->back) {
        sweep->depth = 0;
    } else if (step->below != 0) {
        if (!push(sweep, step->below))
            return -ENOMEM;
    } else if (!step->more) {
        sweep->depth--;
    }
    return sweep->depth > 0 ? 1 : store_change(step->store, end_change, step);
}

/* With `working` held: a few files of the first tree, or the end of it. Adds to *files how many. */
static bool sweep_first(struct store *store, size_t *files)
{
    struct step step = {.store = store, .sweep = first(store->sweeps)};
    if (step.sweep == NULL)
        return false;
    int r = run_step(&step);
    if (r < 0)
        store_warn(store,
                   "files below directory %" PRIu64
                   " stay writable for their owners until the next start: %s",
                   step.sweep->top, strerror(-r));
    *files += step.count;
    if (r <= 0)
        end(store->sweeps, step.sweep);
    return first(store->sweeps) != NULL;
}

bool sweep_some(struct store *store)
{
    size_t files = 0;
    with_mutex(&store->sweeps->working);
    return sweep_first(store, &files);
}

void sweep_start(struct store *store)
{
    struct sweeps *sweeps = store->sweeps;
    bool more = first(sweeps) != NULL;
    if (more && pthread_mutex_trylock(&sweeps->working) == 0) {
        size_t files = 0;
        for (int i = 0; i < QUICK_STEPS && files < QUICK_FILES && more; i++)
            more = sweep_first(store, &files);
        pthread_mutex_unlock(&sweeps->working);
    }
    if (more)
        keeper_sweep(store->keeper);
}

int sweep_resume(struct store *store)
{
    uint64_t id = 0, limit;
    int r = 0;
    while (r == 0) {
        {
            cleanup_view struct view view = {0};
            r = view_open(store, &view);
            if (r == 0)
                r = meta_next_mark(store, &view, id, &id, &limit);
        }
        if (r == 0)
            r = add(store, id++, limit);
    }
    if (r != -ENOENT)
        return r;
    store->sweeps->alone = true;
    while (sweep_some(store))
        ;
    store->sweeps->alone = false;
    return 0;
}

/* ------------------------------------------------------------------- waiting -- */

void sweep_wait(struct store *store, uint64_t id)
{
    struct sweeps *sweeps = store->sweeps;
    with_mutex(&sweeps->lock);
    struct sweep *sweep = sweeps->first;
    while (sweep != NULL && !sweeps->stop) {
        if (sweep->limit <= id) {
            sweep = sweep->next;
            continue;
        }
        pthread_cond_wait(&sweeps->ended, &sweeps->lock);
        sweep = sweeps->first;
    }
}

void sweep_stop(struct store *store)
{
    if (store->sweeps == NULL)
        return;
    with_mutex(&store->sweeps->lock);
    store->sweeps->stop = true;
    pthread_cond_broadcast(&store->sweeps->ended);
}
