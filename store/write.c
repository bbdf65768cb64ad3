/* SPDX-License-Identifier: BSD-2-Clause */
/* write.c: changes to a record itself: its attributes, and the bytes of a file not yet sealed. */
#include <fcntl.h>
#include <stdio.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "record.h"
#include "reserve.h"
#include "seal.h"
#include "staging.h"
#include "tree.h"
#include "unseal.h"

/* ------------------------------------------------------------- attributes -- */

struct set {
    struct store *store;
    uint64_t id;
    unsigned which;
    const struct store_attr *attr;
};

static void set_owner(struct layout_record *record, const struct set *set)
{
    if (set->which & STORE_SET_UID)
        record->uid = set->attr->uid;
    if (set->which & STORE_SET_GID)
        record->gid = set->attr->gid;
    if ((set->which & (STORE_SET_UID | STORE_SET_GID)) && !S_ISDIR(record->mode)) {
        record->mode &= (uint16_t)~S_ISUID;
        if (record->mode & S_IXGRP) /* without it the bit means mandatory locking */
            record->mode &= (uint16_t)~S_ISGID;
    }
}

static int set_times(struct layout_record *record, const struct set *set)
{
    bool atime = set->which & STORE_SET_ATIME, mtime = set->which & STORE_SET_MTIME;
    if (!atime && !mtime)
        return 0;
    const struct timespec omit = {.tv_nsec = UTIME_OMIT};
    const struct timespec times[2] = {
        atime ? set->attr->atime : omit,
        mtime ? set->attr->mtime : omit,
    };
    /* Bytes have their times with them; but a crash may take the bytes. */
    int r = record_is_open(record) ? staging_times(set->store, set->id, times) : 0;
    if (r < 0 && r != -ENOENT)
        return r;
    if (atime)
        record->atime = layout_time(set->attr->atime);
    if (mtime)
        record->mtime = layout_time(set->attr->mtime);
    return 0;
}

/* Attributes of an unfinished file are nobody's but its writer's. */
static int publishes(struct set *set, struct view *view, const struct layout_record *record)
{
    if (record->nlink == 0 || record_is_open(record))
        return 0;
    /* Where the names of a file are its record doesn't tell: few that are finished are in staging.
     */
    return tree_publishes(set->store, view, S_ISDIR(record->mode) ? set->id : STORE_ROOT_ID);
}

static int set_change(struct view *view, void *arg)
{
    struct set *set = arg;
    struct layout_record record;
    int r = record_get(set->store, view, set->id, &record, NULL);
    if (r < 0)
        return r;
    if (set->which & STORE_SET_MODE)
        record.mode = (uint16_t)((record.mode & S_IFMT) | (set->attr->mode & 07777));
    set_owner(&record, set);
    record.ctime = layout_now();
    r = set_times(&record, set);
    if (r == 0)
        r = publishes(set, view, &record);
    return r < 0 ? r : record_update(set->store, view, set->id, &record);
}

static int set_size(struct store *store, uint64_t id, uint64_t size);

int store_setattr(struct store *store, uint64_t id, unsigned which, const struct store_attr *attr,
                  struct store_attr *now)
{
    int r = which & STORE_SET_SIZE ? set_size(store, id, attr->size) : 0;
    if (r == 0 && (which & ~(unsigned)STORE_SET_SIZE) != 0) {
        struct set set = {store, id, which, attr};
        r = store_change(store, set_change, &set);
    }
    return r < 0 ? r : store_getattr(store, id, now);
}

/* ------------------------------------------------------------------ bytes -- */

/* What is to be done to the bytes of a file. */
struct bytes {
    const void *buffer;
    off_t offset;
    size_t size;
    int mode;      /* of fallocate(2) */
    uint64_t keep; /* of what the file contains, bytes from its beginning */
};

static int write_bytes(struct store *store, uint64_t id, const struct bytes *bytes)
{
    return staging_write(store, id, bytes->buffer, bytes->size, bytes->offset);
}

static int allocate_bytes(struct store *store, uint64_t id, const struct bytes *bytes)
{
    return staging_allocate(store, id, bytes->mode, bytes->offset, (off_t)bytes->size);
}

static int truncate_bytes(struct store *store, uint64_t id, const struct bytes *bytes)
{
    return staging_truncate(store, id, (uint64_t)bytes->offset);
}

/* Do it, and nobody seals the file meanwhile. */
static int change_bytes(struct store *store, uint64_t id,
                        int (*change)(struct store *store, uint64_t id, const struct bytes *bytes),
                        const struct bytes *bytes)
{
    if (store->read_only)
        return -EROFS;
    if (bytes->offset > STORE_FILE_MAX - (off_t)bytes->size)
        return -EFBIG;
    int r = bytes->size > 0 ? store_room(store, bytes->size) : 0;
    if (r == 0)
        r = store_writer_open(store, id);
    if (r < 0)
        return r;
    r = unseal(store, id, bytes->keep);
    if (r == 0)
        r = change(store, id, bytes);
    writers_leave(store, id);
    return r;
}

int store_staging_file(struct store *store, uint64_t id, bool writes)
{
    struct layout_record record;
    if (!writes)
        return staging_open(store, id, NULL);
    if (store->read_only)
        return -EROFS;
    if (!reserve_begun(store->reserve)) {
        reserve_begin(store->reserve);
        (void)store_room_keep(store);
    }
    int r = unseal(store, id, UINT64_MAX);
    if (r == 0)
        r = record_look(store, id, &record);
    if (r < 0)
        return r;
    const struct timespec times[2] = {layout_timespec(record.atime), layout_timespec(record.mtime)};
    return staging_open(store, id, times);
}

int store_can_share_staging(struct store *store, char why[STORE_WHY_MAX])
{
    struct statfs fs;
    if (fstatfs(store->staging_fd, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC) {
        /* Each page of a mapping that is written again needs new blocks, also of LMDB's lock file,
         * and finding none is SIGBUS. */
        snprintf(why, STORE_WHY_MAX, "on btrfs, who fills the disk past us would end us");
        return -EOPNOTSUPP;
    }
    cleanup_fd int fd = openat(store->staging_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : 0;
    /* The descriptor itself is one that is open for writing. */
    if (r == 0 && (fcntl(fd, F_SETLEASE, F_RDLCK) == 0 || errno != EAGAIN))
        r = -EOPNOTSUPP;
    if (r < 0)
        snprintf(why, STORE_WHY_MAX, "leases in the store's directory don't work: %s",
                 strerror(-r));
    return r;
}

ssize_t store_write(struct store *store, uint64_t id, const void *buffer, size_t size, off_t offset)
{
    struct bytes bytes = {.buffer = buffer, .offset = offset, .size = size, .keep = UINT64_MAX};
    int r = offset < 0 ? -EFBIG : change_bytes(store, id, write_bytes, &bytes);
    return r < 0 ? r : (ssize_t)size;
}

static int set_size(struct store *store, uint64_t id, uint64_t size)
{
    struct bytes bytes = {.offset = (off_t)size, .keep = size};
    return size > (uint64_t)STORE_FILE_MAX ? -EFBIG
                                           : change_bytes(store, id, truncate_bytes, &bytes);
}

int store_fallocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length)
{
    struct bytes bytes = {
        .offset = offset, .size = (size_t)length, .mode = mode, .keep = UINT64_MAX};
    return offset < 0 || length <= 0 ? -EINVAL : change_bytes(store, id, allocate_bytes, &bytes);
}

int store_fsync(struct store *store, uint64_t id, bool data_only)
{
    if (store->read_only)
        return 0;
    int r = staging_sync(store, id, data_only);
    return r < 0 ? r : store_sync(store);
}

int store_unseal(struct store *store, uint64_t id)
{
    int r = store_writer_open(store, id);
    if (r < 0)
        return r;
    r = unseal(store, id, UINT64_MAX);
    writers_leave(store, id);
    return r;
}
