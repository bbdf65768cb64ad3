/* SPDX-License-Identifier: BSD-2-Clause */
/* write.c: changes to a record itself: its attributes, and the bytes of a file not yet sealed. */
#include <fcntl.h>
#include <sys/stat.h>

#include "record.h"
#include "staging.h"

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
    if (record->place != LAYOUT_STAGED) {
        if (atime)
            record->atime = layout_time(set->attr->atime);
        if (mtime)
            record->mtime = layout_time(set->attr->mtime);
        return 0;
    }
    struct timespec omit = {.tv_nsec = UTIME_OMIT};
    struct timespec times[2] = {atime ? set->attr->atime : omit, mtime ? set->attr->mtime : omit};
    cleanup_fd int fd = staging_open(set->store, set->id, O_WRONLY | O_CREAT);
    if (fd < 0)
        return fd;
    return futimens(fd, times) < 0 ? -errno : 0;
}

static int set_change(MDB_txn *txn, void *arg)
{
    struct set *set = arg;
    struct layout_record record;
    int r = record_get(set->store, txn, set->id, &record, NULL);
    if (r < 0)
        return r;
    if (set->which & STORE_SET_MODE)
        record.mode = (uint16_t)((record.mode & S_IFMT) | (set->attr->mode & 07777));
    set_owner(&record, set);
    record.ctime = layout_now();
    r = set_times(&record, set);
    return r < 0 ? r : record_update(set->store, txn, set->id, &record);
}

static int set_size(struct store *store, uint64_t id, uint64_t size);

int store_setattr(struct store *store, uint64_t id, unsigned which, const struct store_attr *attr,
                  struct store_attr *now)
{
    int r = which & STORE_SET_SIZE ? set_size(store, id, attr->size) : 0;
    if (r == 0 && (which & ~(unsigned)STORE_SET_SIZE) != 0) {
        struct set set = {store, id, which, attr};
        r = store_change(store, set_change, &set, store->page_size);
    }
    return r < 0 ? r : store_getattr(store, id, now);
}

/* ------------------------------------------------------------------ bytes -- */

static int reopen_change(MDB_txn *txn, void *arg)
{
    struct set *set = arg;
    struct layout_record record;
    int r = record_get(set->store, txn, set->id, &record, NULL);
    if (r < 0)
        return r;
    if (!S_ISREG(record.mode))
        return S_ISDIR(record.mode) ? -EISDIR : -EINVAL;
    if (record.place == LAYOUT_STAGED)
        return 0;
    if (record.size > 0)
        return -EPERM;
    record.place = LAYOUT_STAGED;
    memset(record.hash, 0, sizeof(record.hash));
    return record_update(set->store, txn, set->id, &record);
}

/* The host file of an unsealed file, made if this is its first byte. */
static int open_for_writing(struct store *store, uint64_t id)
{
    if (store->read_only)
        return -EROFS;
    int fd = staging_open(store, id, O_WRONLY);
    if (fd != -ENOENT)
        return fd;
    struct set set = {.store = store, .id = id};
    int r = store_change(store, reopen_change, &set, store->page_size);
    return r < 0 ? r : staging_open(store, id, O_WRONLY | O_CREAT);
}

ssize_t store_write(struct store *store, uint64_t id, const void *buffer, size_t size, off_t offset)
{
    if (offset < 0 || offset > STORE_FILE_MAX - (off_t)size)
        return -EFBIG;
    int r = store_room(store, size);
    if (r < 0)
        return r;
    cleanup_fd int fd = open_for_writing(store, id);
    if (fd < 0)
        return fd;
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)buffer + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return (ssize_t)size;
}

static int truncate_file(struct store *store, uint64_t id, uint64_t size)
{
    cleanup_fd int fd = open_for_writing(store, id);
    if (fd < 0)
        return fd;
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

/* Counts as a writer, so that it can't meet a seal half way. */
static int set_size(struct store *store, uint64_t id, uint64_t size)
{
    if (size > (uint64_t)STORE_FILE_MAX)
        return -EFBIG;
    int r = store_writer_open(store, id);
    if (r < 0)
        return r;
    r = truncate_file(store, id, size);
    store_writer_close(store, id);
    return r;
}

int store_fallocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length)
{
    if (offset < 0 || length <= 0)
        return -EINVAL;
    if (offset > STORE_FILE_MAX - length)
        return -EFBIG;
    int r = store_room(store, (size_t)length);
    if (r < 0)
        return r;
    cleanup_fd int fd = open_for_writing(store, id);
    if (fd < 0)
        return fd;
    return fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
}

int store_fsync(struct store *store, uint64_t id, bool data_only)
{
    return store->read_only ? 0 : staging_sync(store, id, data_only);
}
