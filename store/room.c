/* SPDX-License-Identifier: BSD-2-Clause */
/* room.c: transactions find room on the disk, and promises are made only as long as there is some:
 * store_transact() and store_room() of private.h, and their kin. */
#include <stdatomic.h>
#include <sys/statvfs.h>

#include "pending.h"
#include "private.h"
#include "reserve.h"
#include "staged.h"
#include "trim.h"

/* Reads last for milliseconds, those of `lmdbfs check` and its like for tens of them; somebody
 * else's, with an LMDB binding, could last for ever. */
#define READERS_PAUSE_NS 10000000
#define READERS_PAUSES 100

/* Give the disk the store's free pages back until `enough` says 0 or nothing more can be done. */
static int trim_until(struct store *store, int (*enough)(void *arg), void *arg)
{
    int r = enough(arg);
    for (int pauses = 0; r == -ENOSPC && pauses < READERS_PAUSES; pauses++) {
        int more = trim(store);
        if (more < 0)
            break;
        r = enough(arg);
        if (more == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = READERS_PAUSE_NS}, NULL);
    }
    return r;
}

/* Some hundred pages of the tree and of LMDB's free list. */
#define TREE_RESERVE ((uint64_t)2 << 20)

/* Bytes; as many as can be, if it can't be told. */
static uint64_t disk_free(struct store *store)
{
    struct statvfs fs;
    return fstatvfs(store->dir_fd, &fs) < 0 ? UINT64_MAX : (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* ------------------------------------------------------------- transactions -- */

struct transaction {
    struct store *store;
    writer_fn *change;
    void *arg;
    size_t bytes;
};

static int run(void *arg)
{
    struct transaction *transaction = arg;
    struct store *store = transaction->store;
    int r = writer_run(store->writer, transaction->change, transaction->arg, transaction->bytes);
    /* What LMDB says when the disk takes only a part of what it writes. */
    return r == -EIO && disk_free(store) < transaction->bytes + TREE_RESERVE ? -ENOSPC : r;
}

static int run_with_room(void *arg)
{
    struct transaction *transaction = arg;
    int r = trim_until(transaction->store, run, transaction);
    if (r == -ENOSPC && reserve_release(transaction->store->reserve))
        r = run(transaction);
    return r;
}

int store_transact(struct store *store, writer_fn *change, void *arg, size_t bytes)
{
    struct transaction transaction = {store, change, arg, bytes};
    return store->read_only ? -EROFS : run_with_room(&transaction);
}

int store_transact_alone(struct store *store, writer_fn *change, void *arg, size_t bytes)
{
    struct transaction transaction = {store, change, arg, bytes};
    return store->read_only ? -EROFS : pending_exclude(store->pending, run_with_room, &transaction);
}

/* ----------------------------------------------------------------- promises -- */

/* Pages that a change of the tree makes new, at most: those on the way to a record, to an entry and
 * to an orphan. */
#define CHANGE_PAGES 8

static uint64_t promises(struct store *store)
{
    struct pending_stat pending;
    pending_stat(store->pending, &pending);
    return atomic_load(&store->promised) + staged_bytes(store->staged) +
           (pending.changes - pending.committed) * CHANGE_PAGES * store->page_size;
}

struct room {
    struct store *store;
    uint64_t bytes;
    bool promise; /* a new one: beside what was promised, and what is kept for the tree */
};

static int has_room(void *arg)
{
    struct room *room = arg;
    uint64_t there = disk_free(room->store), kept = reserve_bytes(room->store->reserve);
    uint64_t wanted = room->bytes + (room->promise ? promises(room->store) + TREE_RESERVE : 0);
    return there < wanted && there + kept < wanted ? -ENOSPC : 0;
}

int store_room_promised(struct store *store, uint64_t bytes)
{
    struct room room = {store, bytes, false};
    int r = trim_until(store, has_room, &room);
    if (r == 0)
        reserve_let(store->reserve, bytes + TREE_RESERVE / 2);
    return r;
}

/* Beside promises; bytes. With so much, nobody fills the disk before we look the next time. */
#define PLENTY ((uint64_t)256 << 20)

/* What they may take of the reserve in the moments when it is let go to be used; bytes. */
#define EATEN ((uint64_t)64 << 20)

bool store_has_plenty(struct store *store)
{
    struct room room = {store, PLENTY, true};
    return has_room(&room) == 0;
}

int store_room_keep(struct store *store)
{
    struct reserve *reserve = store->reserve;
    if (!reserve_begun(reserve))
        return 0;
    if (store_has_plenty(store))
        return reserve_keep(reserve, TREE_RESERVE);
    uint64_t needed = promises(store) + TREE_RESERVE;
    if (reserve_keep(reserve, needed + EATEN) == 0 || reserve_keep(reserve, needed) == 0)
        return 0;
    (void)reserve_keep(reserve, TREE_RESERVE);
    return -ENOSPC;
}

int store_room(struct store *store, uint64_t bytes)
{
    struct room room = {store, bytes, true};
    int r = has_room(&room);
    if (r != -ENOSPC)
        return r;
    r = store_sync(store);
    return r < 0 ? r : trim_until(store, has_room, &room);
}
