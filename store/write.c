/* SPDX-License-Identifier: BSD-2-Clause */
/* write.c: changes to a record itself: its attributes, and the bytes of a file not yet sealed. */
#include <fcntl.h>
#include <sys/stat.h>

#include "record.h"
#include "seal.h"
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
    /* Bytes in a host file have their times there; an empty file may have none. */
    cleanup_fd int fd =
        record->place == LAYOUT_STAGED ? staging_open(set->store, set->id, O_WRONLY) : -ENOENT;
    if (fd == -ENOENT) {
        if (atime)
            record->atime = layout_time(set->attr->atime);
        if (mtime)
            record->mtime = layout_time(set->attr->mtime);
        return 0;
    }
    struct timespec omit = {.tv_nsec = UTIME_OMIT};
    struct timespec times[2] = {atime ? set->attr->atime : omit, mtime ? set->attr->mtime : omit};
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
    int fd = staging_open(store, id, O_WRONLY);
    if (fd != -ENOENT)
        return fd;
    struct set set = {.store = store, .id = id};
    int r = store_change(store, reopen_change, &set, store->page_size);
    return r < 0 ? r : staging_open(store, id, O_WRONLY | O_CREAT);
}

struct bytes {
    const void *buffer; /* NULL: allocate only */
    off_t offset;
    size_t size;
    int mode; /* of fallocate(2) */
};

static int write_bytes(int fd, const struct bytes *bytes)
{
    for (size_t done = 0; done < bytes->size;) {
        ssize_t n = pwrite(fd, (const char *)bytes->buffer + done, bytes->size - done,
                           bytes->offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

static int allocate_bytes(int fd, const struct bytes *bytes)
{
    return fallocate(fd, bytes->mode, bytes->offset, (off_t)bytes->size) < 0 ? -errno : 0;
}

static int truncate_bytes(int fd, const struct bytes *bytes)
{
    return ftruncate(fd, bytes->offset) < 0 ? -errno : 0;
}

/* Do something to the bytes of a file, which nobody seals meanwhile. */
static int change_bytes(struct store *store, uint64_t id,
                        int (*change)(int fd, const struct bytes *bytes), const struct bytes *bytes)
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
    cleanup_fd int fd = open_for_writing(store, id);
    r = fd < 0 ? fd : change(fd, bytes);
    writers_leave(store, id);
    return r;
}

ssize_t store_write(struct store *store, uint64_t id, const void *buffer, size_t size, off_t offset)
{
    struct bytes bytes = {.buffer = buffer, .offset = offset, .size = size};
    int r = offset < 0 ? -EFBIG : change_bytes(store, id, write_bytes, &bytes);
    return r < 0 ? r : (ssize_t)size;
}

static int set_size(struct store *store, uint64_t id, uint64_t size)
{
    struct bytes bytes = {.offset = (off_t)size};
    return size > (uint64_t)STORE_FILE_MAX ? -EFBIG
                                           : change_bytes(store, id, truncate_bytes, &bytes);
}

int store_fallocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length)
{
    struct bytes bytes = {.offset = offset, .size = (size_t)length, .mode = mode};
    return offset < 0 || length <= 0 ? -EINVAL : change_bytes(store, id, allocate_bytes, &bytes);
}

int store_fsync(struct store *store, uint64_t id, bool data_only)
{
    return store->read_only ? 0 : staging_sync(store, id, data_only);
}
