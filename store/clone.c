/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone.c: a record's content as a host file of its own that shares its disk blocks with data.mdb.
 *
 * The payload of an extent begins on a page boundary and doesn't move, so a filesystem that can
 * share blocks (XFS, btrfs) can be asked to put the extents one behind the other into a new file:
 * no byte is copied, and none is read. When LMDB uses the pages for something else one day, the
 * filesystem gives it new blocks, and the clone keeps the old ones.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "clone.h"
#include "record.h"
#include "verify.h"

/* A file without a name on the filesystem of data.mdb, gone with its last descriptor. */
static int make_file(struct store *store)
{
    int fd = openat(store->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

static int clone_range(struct store *store, int fd, off_t from, size_t length, uint64_t to)
{
    struct file_clone_range range = {
        .src_fd = env_fd(store->env),
        .src_offset = (uint64_t)from,
        .src_length = length,
        .dest_offset = to,
    };
    return ioctl(fd, FICLONERANGE, &range) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------- probe -- */

static const char *filesystem_name(struct store *store, char buffer[32])
{
    static const struct {
        unsigned long magic;
        const char *name;
    } names[] = {
        {0xEF53, "ext4"},        {0x58465342, "XFS without reflink"},
        {0x01021994, "a tmpfs"}, {0x794C7630, "an overlay"},
        {0x6969, "NFS"},
    };
    struct statfs fs;
    if (fstatfs(store->dir_fd, &fs) < 0)
        return "a filesystem";
    for (size_t i = 0; i < array_length(names); i++)
        if ((unsigned long)fs.f_type == names[i].magic)
            return names[i].name;
    snprintf(buffer, 32, "filesystem type %#lx", (unsigned long)fs.f_type);
    return buffer;
}

int store_can_clone(struct store *store, char why[STORE_WHY_MAX])
{
    char buffer[32];
    cleanup_fd int fd = make_file(store);
    /* The first page of data.mdb is always there. */
    int r = fd < 0 ? fd : clone_range(store, fd, 0, store->page_size, 0);
    if (r == -EOPNOTSUPP || r == -ENOTTY || r == -EINVAL || r == -EISDIR)
        snprintf(why, STORE_WHY_MAX, "the store lies on %s, which can't share blocks",
                 filesystem_name(store, buffer));
    else if (r < 0)
        snprintf(why, STORE_WHY_MAX, "cloning in the store's directory fails: %s", strerror(-r));
    return r;
}

/* ------------------------------------------------------------------- clone -- */

int clone_record(struct store *store, uint64_t id, struct layout_record *record)
{
    int r = record_look(store, id, record);
    if (r == 0 && (record->flags & RECORD_FINAL)) { /* its extents are being written */
        r = store_sync(store);
        if (r == 0)
            r = record_look(store, id, record);
    }
    if (r == 0 &&
        (record->place != LAYOUT_EXTENTS || !S_ISREG(record->mode) ||
         (record->flags & LAYOUT_HELD) || record->size <= layout_packed_max(store->page_size)))
        r = -EINVAL;
    return r;
}

int clone_locate(struct store *store, const struct layout_record *record, uint64_t offset,
                 uint64_t length, struct span spans[CLONE_SPANS])
{
    cleanup_view struct view view = {0};
    int r = view_open(store, &view);
    return r < 0 ? r
                 : content_locate(store, &view, record->link, record->size, offset, length, spans,
                                  CLONE_SPANS);
}

/* The disk is asked outside the transaction: the places outlive it, see extent.h. */
static int clone_extents(struct store *store, const struct layout_record *record, int fd)
{
    struct span spans[CLONE_SPANS];
    uint64_t done = 0;
    while (done < record->size) {
        int n = clone_locate(store, record, done, record->size - done, spans);
        if (n <= 0)
            return n < 0 ? n : -EIO;
        for (int i = 0; i < n; i++) {
            const struct span *span = &spans[i];
            size_t padded = (span->size + store->page_size - 1) / store->page_size;
            int r = clone_range(store, fd, span->payload, padded * store->page_size, span->start);
            if (r < 0)
                return r;
            done = span->start + span->size;
        }
    }
    return ftruncate(fd, (off_t)record->size) < 0 ? -errno : 0;
}

int store_clone(struct store *store, uint64_t id, struct store_clone *clone)
{
    struct layout_record record;
    int r = clone_record(store, id, &record);
    if (r < 0)
        return r;
    enum verdict verdict = verified_verdict(store->verified, record.link);
    if (store->verify == STORE_VERIFY_NEVER)
        verdict = VERDICT_SOUND;
    if (verdict == VERDICT_DAMAGED)
        return -EIO;
    cleanup_fd int fd = make_file(store);
    r = fd < 0 ? fd : clone_extents(store, &record, fd);
    /* Beside a writer in another process no lease holds the pages: see read.c. */
    if (store->read_only && verify_is_gone(store, id))
        r = -ENOENT;
    if (r < 0)
        return r;
    *clone = (struct store_clone){steal_fd(&fd), record.size, verdict == VERDICT_SOUND};
    return 0;
}
