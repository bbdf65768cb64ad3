/* SPDX-License-Identifier: BSD-2-Clause */
#include "backing.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include "metrics.h"
#include "store/util.h"

#define BUCKETS 1024

/* In fi->fh: what RELEASE has to take back. */
enum way { NOT_COUNTED = 0, CACHED = 1, PASSTHROUGH = 2 };

/* Clones that wait to be compared; each has a descriptor open. Beyond that a record is opened
 * through the cache. */
#define QUEUED_MOST 512

struct backing {
    uint64_t id;
    int backing_id;                /* the kernel's number of the clone; 0: none */
    bool busy;                     /* being cloned by somebody: wait */
    bool damaged;                  /* the content; opens fail */
    bool verifying;                /* its place is in `queue` or with the thread */
    unsigned passed;               /* how often it is open through the clone */
    unsigned cached;               /* how often it is open through the kernel's cache */
    unsigned waiting;              /* who waits until it is not busy */
    struct store_clone clone;      /* while verifying */
    struct backing *next;          /* in its bucket */
    struct backing *older, *newer; /* in the order of their last close, if kept and not open */
    struct backing *queued;        /* the next to be verified */
};

struct backings {
    struct store *store;
    struct ways *ways;
    unsigned kept_most;
    atomic_bool stop;
    atomic_bool refused; /* the kernel doesn't take clones */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    struct backing *buckets[BUCKETS];
    struct backing *oldest, *newest;
    unsigned kept;         /* in that list */
    struct backing *queue; /* to be verified */
    unsigned queued;
    bool running; /* the verifier's thread */
    pthread_t verifier;
    struct {
        uint64_t made, hits, evicted, refused;
        uint64_t now;
    } count;
};

/* -------------------------------------------------------------------- table -- */
/* With the lock held. */

static struct backing **find(struct backings *backings, uint64_t id)
{
    struct backing **at = &backings->buckets[id % BUCKETS];
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static struct backing *find_or_add(struct backings *backings, uint64_t id)
{
    struct backing **at = find(backings, id);
    if (*at == NULL && (*at = calloc(1, sizeof(**at))) != NULL)
        (*at)->id = id;
    return *at;
}

/* Take it out of the kept ones, if it is one. */
static void unkeep(struct backings *backings, struct backing *backing)
{
    bool listed = backing->older != NULL || backings->oldest == backing;
    if (!listed)
        return;
    *(backing->older != NULL ? &backing->older->newer : &backings->oldest) = backing->newer;
    *(backing->newer != NULL ? &backing->newer->older : &backings->newest) = backing->older;
    backing->older = backing->newer = NULL;
    backings->kept--;
}

static void keep(struct backings *backings, struct backing *backing)
{
    backing->older = backings->newest;
    *(backings->newest != NULL ? &backings->newest->newer : &backings->oldest) = backing;
    backings->newest = backing;
    backings->kept++;
}

/* Forget what nothing is known about. */
static void tidy(struct backings *backings, struct backing *backing)
{
    if (backing->passed > 0 || backing->cached > 0 || backing->waiting > 0 || backing->busy ||
        backing->verifying || backing->backing_id != 0)
        return;
    *find(backings, backing->id) = backing->next;
    free(backing);
}

static void evict(struct backings *backings, fuse_req_t req, struct backing *backing)
{
    unkeep(backings, backing);
    (void)fuse_passthrough_close(req, backing->backing_id);
    backing->backing_id = 0;
    backings->count.evicted++;
    backings->count.now--;
    tidy(backings, backing);
}

/* ------------------------------------------------------------------- verify -- */

static bool stopping(void *arg)
{
    struct backings *backings = arg;
    return atomic_load_explicit(&backings->stop, memory_order_relaxed);
}

static void *verify(void *arg)
{
    struct backings *backings = arg;
    with_mutex(&backings->lock);
    while (!stopping(backings)) {
        struct backing *backing = backings->queue;
        if (backing == NULL) {
            pthread_cond_wait(&backings->changed, &backings->lock);
            continue;
        }
        backings->queue = backing->queued;
        backings->queued--;
        pthread_mutex_unlock(&backings->lock);
        int r =
            store_clone_verify(backings->store, backing->id, &backing->clone, stopping, backings);
        (void)close(backing->clone.fd);
        pthread_mutex_lock(&backings->lock);
        backing->damaged = r == -EIO;
        backing->verifying = false;
        tidy(backings, backing);
    }
    return NULL;
}

/* Takes the clone over. */
static void verify_later(struct backings *backings, struct backing *backing,
                         const struct store_clone *clone)
{
    if (!backings->running)
        backings->running = pthread_create(&backings->verifier, NULL, verify, backings) == 0;
    backing->clone = *clone;
    backing->verifying = true;
    struct backing **last = &backings->queue;
    while (*last != NULL)
        last = &(*last)->queued;
    backing->queued = NULL;
    *last = backing;
    backings->queued++;
    pthread_cond_broadcast(&backings->changed);
}

/* -------------------------------------------------------------------- clone -- */

/* Clone and register, without the lock. The number of the backing file; 0: go through the cache;
 * -EIO: damaged. clone->fd stays open if there is still something to compare. */
static int make(struct backings *backings, fuse_req_t req, uint64_t id, struct store_clone *clone)
{
    clone->fd = -1;
    int r = atomic_load(&backings->refused) ? -EPERM : store_clone(backings->store, id, clone);
    if (r < 0)
        return r == -EIO ? r : 0;
    if (!clone->verified && clone->size <= BACKING_VERIFY_AT_OPEN) {
        r = store_clone_verify(backings->store, id, clone, NULL, NULL);
        clone->verified = true;
    }
    int backing_id = r == -EIO ? r : fuse_passthrough_open(req, clone->fd);
    if (backing_id == 0) {
        atomic_store(&backings->refused, true);
        ways_set(backings->ways, WAY_large, "through the daemon",
                 "the kernel refused to read a clone by itself");
    }
    if (backing_id <= 0 || clone->verified) {
        (void)close(clone->fd);
        clone->fd = -1;
    }
    return backing_id;
}

/* With the lock held; lets go of it meanwhile. Others who want the same wait. */
static int add_clone(struct backings *backings, fuse_req_t req, struct backing *backing)
{
    struct store_clone clone;
    backing->busy = true;
    pthread_mutex_unlock(&backings->lock);
    int made = make(backings, req, backing->id, &clone);
    pthread_mutex_lock(&backings->lock);
    backing->busy = false;
    pthread_cond_broadcast(&backings->changed);
    if (made > 0) {
        backing->backing_id = made;
        backings->count.made++;
        backings->count.now++;
        if (clone.fd >= 0)
            verify_later(backings, backing, &clone);
    } else if (made == 0) {
        backings->count.refused++;
    }
    return made;
}

/* -------------------------------------------------------------- open, close -- */

static void open_cached(struct backing *backing, struct fuse_file_info *fi)
{
    backing->cached++;
    fi->fh = CACHED;
}

static void open_passed(struct backings *backings, struct backing *backing,
                        struct fuse_file_info *fi)
{
    unkeep(backings, backing);
    backing->passed++;
    fi->fh = PASSTHROUGH;
    fi->backing_id = backing->backing_id;
    fi->keep_cache = 0; /* it has no say about another file's pages, and the kernel refuses it */
}

/* With the lock held: for reading, a record that is sealed and large. */
static int open_large(struct backings *backings, fuse_req_t req, struct backing *backing,
                      struct fuse_file_info *fi)
{
    while (backing->busy) {
        backing->waiting++;
        pthread_cond_wait(&backings->changed, &backings->lock);
        backing->waiting--;
    }
    if (backing->damaged)
        return -EIO;
    if (backing->cached > 0) {
        open_cached(backing, fi);
        return 0;
    }
    int r = backing->backing_id;
    if (r > 0)
        backings->count.hits++;
    else if (backings->queued < QUEUED_MOST)
        r = add_clone(backings, req, backing);
    if (r > 0)
        open_passed(backings, backing, fi);
    else if (r == 0)
        open_cached(backing, fi);
    return r < 0 ? r : 0;
}

int backings_open(struct backings *backings, fuse_req_t req, uint64_t id, bool writes,
                  struct fuse_file_info *fi)
{
    struct store_attr attr;
    if (backings == NULL || id < STORE_FIRST_ID)
        return 0;
    int r = store_getattr(backings->store, id, &attr);
    if (r < 0)
        return r;
    if (attr.sealed && attr.size < BACKING_LEAST && attr.size > 0)
        return 0; /* it stays so, and nobody ever clones it */
    with_mutex(&backings->lock);
    struct backing *backing = find_or_add(backings, id);
    if (backing == NULL)
        return -ENOMEM;
    bool sealed = attr.sealed && attr.size > 0;
    if (writes || (!sealed && backing->passed == 0))
        open_cached(backing, fi);
    else
        r = open_large(backings, req, backing, fi);
    tidy(backings, backing);
    return r;
}

void backings_close(struct backings *backings, fuse_req_t req, uint64_t id,
                    const struct fuse_file_info *fi)
{
    if (backings == NULL || fi->fh == NOT_COUNTED)
        return;
    with_mutex(&backings->lock);
    struct backing *backing = *find(backings, id);
    if (backing == NULL)
        return;
    if (fi->fh == CACHED && backing->cached > 0)
        backing->cached--;
    if (fi->fh == PASSTHROUGH && backing->passed > 0 && --backing->passed == 0)
        keep(backings, backing);
    if (backings->kept > backings->kept_most)
        evict(backings, req, backings->oldest);
    else
        tidy(backings, backing);
}

void backings_forget(struct backings *backings, fuse_req_t req, uint64_t id)
{
    struct store_attr attr;
    if (backings == NULL)
        return;
    with_mutex(&backings->lock);
    struct backing *backing = *find(backings, id);
    if (backing == NULL || backing->passed > 0 || backing->busy || backing->backing_id == 0)
        return;
    if (store_getattr(backings->store, id, &attr) < 0 || attr.nlink == 0)
        evict(backings, req, backing);
}

/* --------------------------------------------------------------------- life -- */

struct backings *backings_new(struct store *store, struct ways *ways, unsigned kept_most)
{
    struct backings *backings = calloc(1, sizeof(*backings));
    if (backings == NULL)
        return NULL;
    backings->store = store;
    backings->ways = ways;
    backings->kept_most = kept_most;
    pthread_mutex_init(&backings->lock, NULL);
    pthread_cond_init(&backings->changed, NULL);
    return backings;
}

/* The kernel lets go of the backing files with the session. */
void backings_free(struct backings *backings)
{
    if (backings == NULL)
        return;
    {
        with_mutex(&backings->lock);
        atomic_store(&backings->stop, true);
        pthread_cond_broadcast(&backings->changed);
    }
    if (backings->running)
        pthread_join(backings->verifier, NULL);
    for (struct backing *left = backings->queue; left != NULL; left = left->queued)
        (void)close(left->clone.fd);
    for (size_t i = 0; i < BUCKETS; i++) {
        while (backings->buckets[i] != NULL) {
            struct backing *backing = backings->buckets[i];
            backings->buckets[i] = backing->next;
            free(backing);
        }
    }
    pthread_cond_destroy(&backings->changed);
    pthread_mutex_destroy(&backings->lock);
    free(backings);
}

void backings_print(FILE *out, struct backings *backings)
{
    if (backings == NULL)
        return;
    with_mutex(&backings->lock);
    metrics_print(out, "lmdbfs_clones", "gauge", "Clones of large records, open or kept.",
                  backings->count.now);
    metrics_print(out, "lmdbfs_clones_kept", "gauge", "Those that nobody has open.",
                  backings->kept);
    metrics_print(out, "lmdbfs_clones_made_total", "counter", "Large records that were cloned.",
                  backings->count.made);
    metrics_print(out, "lmdbfs_clone_hits_total", "counter",
                  "Opens that found their clone already there.", backings->count.hits);
    metrics_print(out, "lmdbfs_clones_evicted_total", "counter", "Clones that were given up.",
                  backings->count.evicted);
    metrics_print(out, "lmdbfs_clones_refused_total", "counter",
                  "Large records that could not be cloned, and were read through the daemon.",
                  backings->count.refused);
}
