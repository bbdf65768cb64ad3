/* SPDX-License-Identifier: BSD-2-Clause */
#include "backing.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "attr.h"
#include "metrics.h"
#include "store/util.h"
#include "verifier.h"

#define BUCKETS 1024

/* In fi->fh: what RELEASE has to take back. */
enum way { NOT_COUNTED = 0, CACHED = 1, PASSTHROUGH = 2 };

struct backing {
    uint64_t id;
    int backing_id; /* the kernel's number of the host file; 0: none */
    bool staged;    /* it is that of an unsealed file, and `inode` its number */
    ino_t inode;
    bool by_users;                 /* somebody else than root has opened it for writing */
    bool busy;                     /* somebody is making that: wait */
    bool damaged;                  /* the content; opens fail */
    bool verifying;                /* its clone is with the verifier */
    unsigned passed;               /* how often it is open through the host file */
    unsigned cached;               /* how often it is open through the kernel's cache */
    unsigned waiting;              /* who waits until it is not busy */
    struct backing *next;          /* in its bucket */
    struct backing *older, *newer; /* in the order of their last close, if kept and not open */
};

struct backings {
    struct store *store;
    struct ways *ways;
    struct backings_wish wish;
    struct verifier *verifier;
    atomic_bool refused; /* the kernel doesn't take host files */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    struct backing *buckets[BUCKETS];
    struct backing *oldest, *newest;
    unsigned kept; /* in that list */
    struct {
        uint64_t made, hits, evicted, refused;
        uint64_t now;
        uint64_t staged;
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

/* It isn't open. The caller tidies. */
static void give_up(struct backings *backings, fuse_req_t req, struct backing *backing)
{
    unkeep(backings, backing);
    (void)fuse_passthrough_close(req, backing->backing_id);
    backing->backing_id = 0;
    backings->count.evicted += !backing->staged;
    backings->count.now -= !backing->staged;
    backing->staged = backing->by_users = false;
}

/* For the verifier. */
static void note_verified(void *arg, uint64_t id, bool damaged)
{
    struct backings *backings = arg;
    with_mutex(&backings->lock);
    struct backing *backing = *find(backings, id);
    backing->damaged = damaged;
    backing->verifying = false;
    tidy(backings, backing);
}

/* -------------------------------------------------------------------- clone -- */

/* Have the kernel take a host file: its number; 0: no. */
static int hand_over(struct backings *backings, fuse_req_t req, int fd, enum way_of way)
{
    int backing_id = fuse_passthrough_open(req, fd);
    if (backing_id > 0)
        return backing_id;
    atomic_store(&backings->refused, true);
    ways_set(backings->ways, way, "through the daemon", "the kernel refused to take a host file");
    return 0;
}

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
    int backing_id = r == -EIO ? r : hand_over(backings, req, clone->fd, WAY_large);
    if (backing_id <= 0 || clone->verified) {
        (void)close(clone->fd);
        clone->fd = -1;
    }
    return backing_id;
}

/* With the lock held; lets go of it meanwhile. Others who want the same wait. As make(). */
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
            backing->verifying = verifier_add(backings->verifier, backing->id, &clone);
        if (clone.fd >= 0 && !backing->verifying) {
            give_up(backings, req, backing);
            made = 0;
        }
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

/* With the lock held: for reading, a record that is sealed and large, and not open. */
static int open_large(struct backings *backings, fuse_req_t req, struct backing *backing,
                      struct fuse_file_info *fi)
{
    int r = backing->backing_id;
    if (r > 0)
        backings->count.hits++;
    else if (verifier_has_room(backings->verifier))
        r = add_clone(backings, req, backing);
    if (r > 0)
        open_passed(backings, backing, fi);
    else if (r == 0)
        open_cached(backing, fi);
    return r < 0 ? r : 0;
}

/* Clones are kept, for the pages that the kernel caches with them. */
static void close_passed(struct backings *backings, fuse_req_t req, struct backing *backing)
{
    if (--backing->passed > 0)
        return;
    if (!backing->staged)
        keep(backings, backing);
    else
        give_up(backings, req, backing);
    struct backing *oldest = backings->oldest;
    if (backings->kept <= backings->wish.kept_most)
        return;
    give_up(backings, req, oldest);
    if (oldest != backing)
        tidy(backings, oldest);
}

/* Have the kernel take the host file of an unsealed file, if it is the first time: its number; 0:
 * it can't be had, then writing says why. Without the lock. Also tells its inode. */
static int share(struct backings *backings, fuse_req_t req, uint64_t id, bool writes, bool first,
                 ino_t *inode)
{
    struct stat st;
    if (atomic_load(&backings->refused) || !backings->wish.staged ||
        (first && writes && !store_has_plenty(backings->store)))
        return 0;
    cleanup_fd int fd = store_staging_file(backings->store, id, writes);
    if (fd < 0 || fstat(fd, &st) < 0)
        return 0;
    *inode = st.st_ino;
    return first ? hand_over(backings, req, fd, WAY_writing) : 0;
}

/* With the lock held; lets go of it meanwhile. A file that isn't sealed and that nobody has open
 * through the cache. */
static int open_staged(struct backings *backings, fuse_req_t req, struct backing *backing,
                       bool writes, struct fuse_file_info *fi)
{
    ino_t inode = 0;
    bool first = backing->passed == 0;
    backing->busy = true;
    backing->passed += !first; /* what others have open stays meanwhile */
    pthread_mutex_unlock(&backings->lock);
    int backing_id = share(backings, req, backing->id, writes, first, &inode);
    pthread_mutex_lock(&backings->lock);
    backing->busy = false;
    pthread_cond_broadcast(&backings->changed);
    if (!first && inode != backing->inode) {
        close_passed(backings, req, backing);
        return -EBUSY; /* it was removed under who has it open: see staging_remove_idle() */
    }
    if (first && backing_id == 0) {
        open_cached(backing, fi);
        return 0;
    }
    if (first) {
        backing->backing_id = backing_id;
        backing->inode = inode;
        backing->staged = true;
        backings->count.staged++;
    }
    backing->passed -= !first;
    backing->by_users |= writes && fuse_req_ctx(req)->uid != 0;
    open_passed(backings, backing, fi);
    return 0;
}

/* Nobody can write it any more. */
static bool is_final(const struct store_attr *attr)
{
    return attr->sealed && attr->size > 0;
}

/* With the lock held. */
static int open_counted(struct backings *backings, fuse_req_t req, struct backing *backing,
                        const struct store_attr *attr, bool writes, struct fuse_file_info *fi)
{
    while (backing->busy) {
        backing->waiting++;
        pthread_cond_wait(&backings->changed, &backings->lock);
        backing->waiting--;
    }
    if (backing->damaged)
        return -EIO;
    if (backing->cached > 0)
        open_cached(backing, fi);
    else if (backing->passed > 0 && !writes) {
        backings->count.hits += !backing->staged;
        open_passed(backings, backing, fi);
    } else if (!is_final(attr) && (writes || attr->open) &&
               (backing->passed > 0 || attr_privileges(attr) == 0))
        return open_staged(backings, req, backing, writes, fi);
    else if (is_final(attr) && backings->wish.clones)
        return open_large(backings, req, backing, fi);
    else
        open_cached(backing, fi);
    return 0;
}

int backings_open(struct backings *backings, fuse_req_t req, uint64_t id, bool writes,
                  struct fuse_file_info *fi)
{
    struct store_attr attr;
    if (backings == NULL || id < STORE_FIRST_ID)
        return 0;
    with_mutex(&backings->lock);
    int r = store_getattr(backings->store, id, &attr);
    if (r < 0)
        return r;
    if (is_final(&attr) && attr.size < BACKING_LEAST && *find(backings, id) == NULL)
        return 0; /* it stays so, and nobody ever hands it over */
    struct backing *backing = find_or_add(backings, id);
    if (backing == NULL)
        return -ENOMEM;
    r = open_counted(backings, req, backing, &attr, writes, fi);
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
    if (fi->fh == PASSTHROUGH && backing->passed > 0)
        close_passed(backings, req, backing);
    tidy(backings, backing);
}

bool backings_written_by_users(struct backings *backings, uint64_t id)
{
    if (backings == NULL)
        return false;
    with_mutex(&backings->lock);
    struct backing *backing = *find(backings, id);
    return backing != NULL && backing->staged && backing->passed > 0 && backing->by_users;
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
        give_up(backings, req, backing);
    tidy(backings, backing);
}

/* --------------------------------------------------------------------- life -- */

struct backings *backings_new(struct store *store, struct ways *ways,
                              const struct backings_wish *wish)
{
    struct backings *backings = calloc(1, sizeof(*backings));
    if (backings == NULL)
        return NULL;
    backings->store = store;
    backings->ways = ways;
    backings->wish = *wish;
    pthread_mutex_init(&backings->lock, NULL);
    pthread_cond_init(&backings->changed, NULL);
    backings->verifier = verifier_new(store, note_verified, backings);
    if (backings->verifier == NULL) {
        backings_free(backings);
        return NULL;
    }
    return backings;
}

/* The kernel lets go of the backing files with the session. */
void backings_free(struct backings *backings)
{
    if (backings == NULL)
        return;
    verifier_free(backings->verifier);
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
    metrics_print(out, "lmdbfs_staged_files_shared_total", "counter",
                  "Unsealed files that the kernel got to read and write by itself.",
                  backings->count.staged);
}
