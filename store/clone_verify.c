/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone_verify.c: a clone is compared, extent by extent, with the hashes in the extents' headers.
 *
 * Hashing is quick, 0.06 s for 1 GiB. What takes time is the disk, and to find and fill the pages
 * of the cache: 0.1 to 1.5 s for 1 GiB, by their size, and by whether the machine has the memory at
 * hand. So a few threads share the work, and ask for pages that are as large as they can be.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>

#include "clone.h"
#include "verify.h"

/*
 * What a thread takes on at a time: the extents that begin in so many bytes, as many as the largest
 * extent has. Who reads the clone in order comes behind the threads, so it must not be much.
 */
#define WINDOW_BYTES ((uint64_t)4 << 20)

/* Threads beside the callers', in all. Three at work keep a disk of 2.5 GB/s busy; a fourth gains
 * nothing. */
#define HELPERS_MOST 2

/* Bytes that are read and hashed at once: the second time they are touched they are still in the
 * processor's cache. */
#define PIECE_BYTES ((size_t)256 << 10)

/* What a thread asks the disk for at once; the others' hashing and reading overlap with it. */
#define HUGE_BYTES ((size_t)2 << 20)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE \
    0x80 /* Linux 6.14: leave in the page cache what was there, and nothing else */
#endif

/* A clone that is being compared, by all threads that do it. */
struct comparison {
    struct store *store;
    uint64_t id;
    const struct store_clone *clone;
    struct layout_record record;
    store_stop_fn *stop;
    void *arg;
    bool keep;             /* the pages, in the cache */
    _Atomic uint64_t next; /* the first window that nobody has taken on */
    atomic_bool over;      /* take on no more */

    pthread_mutex_t lock; /* guards the rest: the first thing in the file that is wrong */
    int error;
    uint64_t place;
    const char *what; /* NULL: it isn't the content */
};

/* One of the threads. */
struct comparer {
    struct comparison *all;
    int fd; /* of its own, because the kernel reads ahead by what each descriptor was used for */
    char *buffer; /* PIECE_BYTES */
    XXH3_state_t *state;
    int flags; /* to read with */
};

/* What would push out a good part of what is cached shall not stay in the cache itself. */
static bool fits_cache(uint64_t size)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 && size < (uint64_t)info.totalram * info.mem_unit / 4;
}

/* Windows are taken on in order, and finished: so the first damage of the file is found, however
 * many there are. */
static int give_up(struct comparison *all, int error, uint64_t place, const char *what)
{
    with_mutex(&all->lock);
    atomic_store(&all->over, true);
    if (all->error == 0 || place < all->place) {
        all->error = error;
        all->place = place;
        all->what = what;
    }
    return error;
}

/* ------------------------------------------------------------------- window -- */

/*
 * Have the disk read [at, at + size), up to HUGE_BYTES: false if the kernel can't do it so. A fault
 * in a mapping that wants huge pages brings one, or 2 MiB in pages as large as the filesystem can
 * have; without MADV_RANDOM two, and who reads at random places meanwhile waits longer.
 * readahead(2) brings small ones, and not only filling them costs more: who reads them by a mapping
 * takes three times as long. Nothing of the mapping is touched, so a bad disk is no signal.
 */
static bool fetch_huge(int fd, uint64_t at, size_t size)
{
    char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)at);
    if (map == MAP_FAILED)
        return false;
    bool able = madvise(map, size, MADV_HUGEPAGE) == 0 && madvise(map, size, MADV_RANDOM) == 0 &&
                madvise(map, 1, MADV_POPULATE_READ) == 0;
    (void)munmap(map, size);
    return able;
}

static void fetch(int fd, uint64_t at, size_t size)
{
    if (fetch_huge(fd, at, size))
        return;
    for (size_t done = 0; done < size; done += PIECE_BYTES)
        (void)readahead(fd, (off_t)(at + done), PIECE_BYTES);
}

static ssize_t read_piece(struct comparer *comparer, size_t size, uint64_t offset)
{
    struct iovec vector = {comparer->buffer, size};
    ssize_t n = preadv2(comparer->fd, &vector, 1, (off_t)offset, comparer->flags);
    if (n < 0 && errno == EOPNOTSUPP && comparer->flags != 0) {
        comparer->flags = 0;
        n = preadv2(comparer->fd, &vector, 1, (off_t)offset, 0);
    }
    return n < 0 ? -errno : n;
}

static int hash_extent(struct comparer *comparer, const struct span *span, uint8_t hash[16])
{
    struct comparison *all = comparer->all;
    XXH3_128bits_reset(comparer->state);
    for (size_t done = 0; done < span->size;) {
        if (all->stop != NULL && all->stop(all->arg))
            return give_up(all, -EINTR, UINT64_MAX, NULL);
        if (all->keep && done % HUGE_BYTES == 0)
            fetch(comparer->fd, span->start + done, MIN(HUGE_BYTES, span->size - done));
        ssize_t n = read_piece(comparer, MIN(PIECE_BYTES, span->size - done), span->start + done);
        if (n <= 0 && n != -EINTR)
            return give_up(all, -EIO, span->start, "unreadable bytes");
        if (n > 0) {
            XXH3_128bits_update(comparer->state, comparer->buffer, (size_t)n);
            done += (size_t)n;
        }
    }
    hash_finish(comparer->state, hash);
    verify_count(all->store, span->size);
    return 0;
}

static int compare_extent(struct comparer *comparer, const struct span *span)
{
    struct layout_extent_front front;
    uint8_t hash[16];
    int r = hash_extent(comparer, span, hash);
    if (r < 0)
        return r;
    const char *wrong = verify_front(comparer->all->store, span, &front);
    if (wrong == NULL && memcmp(hash, front.extent.hash, sizeof(hash)) != 0)
        wrong = "wrong bytes";
    return wrong == NULL ? 0 : give_up(comparer->all, -EIO, span->start, wrong);
}

/* The extents that begin in [from, to). */
static int compare_window(struct comparer *comparer, uint64_t from, uint64_t to)
{
    struct comparison *all = comparer->all;
    struct span spans[CLONE_SPANS];
    for (uint64_t done = from; done < to;) {
        int n = clone_locate(all->store, &all->record, done, to - done, spans);
        if (n <= 0)
            return give_up(all, n < 0 ? n : -EIO, done, n == -EIO ? "no bytes" : NULL);
        for (int i = 0; i < n && done < to; i++) {
            const struct span *span = &spans[i];
            bool begins_here = span->start >= from && span->start < to;
            int r = begins_here ? compare_extent(comparer, span) : 0;
            if (r < 0)
                return r;
            done = span->start + span->size;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ threads -- */

static void cleanup_comparer_p(struct comparer *comparer)
{
    if (comparer->fd >= 0 && comparer->fd != comparer->all->clone->fd)
        (void)close(comparer->fd);
    free(comparer->buffer);
    XXH3_freeState(comparer->state);
}

static int compare_windows(struct comparison *all)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", all->clone->fd);
    cleanup(cleanup_comparer_p) struct comparer comparer = {
        .all = all,
        .fd = open(path, O_RDONLY | O_CLOEXEC),
        .buffer = malloc(PIECE_BYTES),
        .state = XXH3_createState(),
        .flags = all->keep ? 0 : RWF_DONTCACHE,
    };
    if (comparer.buffer == NULL || comparer.state == NULL)
        return -ENOMEM;
    if (comparer.fd < 0)
        comparer.fd = all->clone->fd;
    int r = 0;
    while (r == 0 && !atomic_load(&all->over)) {
        uint64_t from = atomic_fetch_add(&all->next, WINDOW_BYTES);
        if (from >= all->clone->size)
            break;
        r = compare_window(&comparer, from, MIN(from + WINDOW_BYTES, all->clone->size));
    }
    return r;
}

/* What it can't do for want of memory, the caller does. */
static void *help(void *arg)
{
    (void)compare_windows(arg);
    return NULL;
}

/* Start one more thread, if there may be one more. */
static bool get_help(struct comparison *all, pthread_t *thread)
{
    _Atomic unsigned *helpers = &all->store->helpers;
    if (atomic_fetch_add(helpers, 1) < HELPERS_MOST && pthread_create(thread, NULL, help, all) == 0)
        return true;
    atomic_fetch_sub(helpers, 1);
    return false;
}

static int compare_together(struct comparison *all)
{
    pthread_t helpers[HELPERS_MOST];
    unsigned count = 0;
    while (count < HELPERS_MOST && all->clone->size > (count + 1) * WINDOW_BYTES &&
           get_help(all, &helpers[count]))
        count++;
    int r = compare_windows(all);
    if (r == -ENOMEM)
        (void)give_up(all, r, UINT64_MAX, NULL);
    for (unsigned i = 0; i < count; i++)
        pthread_join(helpers[i], NULL);
    atomic_fetch_sub(&all->store->helpers, count);
    return all->error;
}

int store_clone_verify(struct store *store, uint64_t id, const struct store_clone *clone,
                       store_stop_fn *stop, void *arg)
{
    struct comparison all = {
        .store = store,
        .id = id,
        .clone = clone,
        .stop = stop,
        .arg = arg,
        .keep = fits_cache(clone->size),
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    int r = clone_record(store, id, &all.record);
    if (r < 0)
        return r;
    r = compare_together(&all);
    if (r == 0 || r == -EIO)
        verified_judge(store->verified, all.record.link, r == 0 ? VERDICT_SOUND : VERDICT_DAMAGED);
    if (r == -EIO && all.what != NULL)
        r = verify_report(store, id, all.place, all.what); /* -ENOENT: others have its pages now */
    return r;
}
