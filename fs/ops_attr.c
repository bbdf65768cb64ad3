/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>

#include "attr.h"
#include "backing.h"
#include "node.h"
#include "privileges.h"
#include "reply.h"
#include "sealing.h"

/* The unit in which statfs counts, bytes. */
#define STATFS_BLOCK 4096
/* What the smallest record takes in the store, bytes, about: for the number of records there is
 * still room for. */
#define RECORD_LEAST 256

void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_getattr);
    struct store_attr attr;
    privileges_look(&mount->privileges, mount->store, id);
    int r = node_getattr(mount, id, &attr);
    if (r < 0)
        reply_result(req, r);
    else
        reply_attr(req, &attr);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)

static struct statx_timestamp statx_time(struct timespec time)
{
    return (struct statx_timestamp){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

/* Asked only by who wants to know the time of birth, which GETATTR can't carry. */
void ops_statx(fuse_req_t req, fuse_ino_t id, int flags, int mask, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_statx);
    struct store_attr attr;
    privileges_look(&mount->privileges, mount->store, id);
    int r = node_getattr(mount, id, &attr);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    struct stat st = attr_to_stat(&attr);
    struct statx all = {
        .stx_mask = STATX_BASIC_STATS | STATX_BTIME,
        .stx_blksize = (uint32_t)st.st_blksize,
        .stx_nlink = attr.nlink,
        .stx_uid = attr.uid,
        .stx_gid = attr.gid,
        .stx_mode = (uint16_t)attr.mode,
        .stx_ino = attr.id,
        .stx_size = attr.size,
        .stx_blocks = attr.blocks,
        .stx_atime = statx_time(attr.atime),
        .stx_btime = statx_time(attr.btime),
        .stx_ctime = statx_time(attr.ctime),
        .stx_mtime = statx_time(attr.mtime),
    };
    fuse_reply_statx(req, 0, &all, attr_timeout(&attr));
}

#endif

/*
 * A change of the size is a write, perhaps by somebody who does not have the file open. Where the
 * store counts the writers he is one for this moment, and the file may get sealed afterwards.
 */
static int set_size(struct mount *mount, uint64_t id, unsigned which, const struct store_attr *attr,
                    struct store_attr *now)
{
    bool counted = mode_get(mount) == MODE_OPEN;
    int r = counted ? store_writer_open(mount->store, id) : 0;
    if (r < 0)
        return r;
    r = store_setattr(mount->store, id, which, attr, now);
    if (counted)
        store_writer_close(mount->store, id);
    else if (r == 0)
        sealing_written(mount, id);
    return r;
}

/* What a write, and a truncation, takes from who must not keep it: the set-uid and set-gid bits. */
static int without_privileges(struct store *store, uint64_t id, unsigned *which,
                              struct store_attr *attr)
{
    struct store_attr old;
    int r = store_getattr(store, id, &old);
    if (r < 0)
        return r;
    uint32_t killed = attr_privileges(&old);
    if (killed != 0 && !(*which & STORE_SET_MODE)) {
        *which |= STORE_SET_MODE;
        attr->mode = old.full_mode & ~killed;
    }
    return 0;
}

void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *wanted, int to_set,
                 struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_setattr);
    if (node_is_reserved(id)) {
        reply_result(req, -EPERM);
        return;
    }
    struct store_attr attr, now;
    unsigned which = attr_from_setattr(wanted, to_set, &attr);
    int r = 0;
    if (privileges_abused(&mount->privileges, mount->store, id) ||
        (to_set & FUSE_SET_ATTR_KILL_SUID))
        r = without_privileges(mount->store, id, &which, &attr);
    if (r == 0)
        r = (which & STORE_SET_SIZE) ? set_size(mount, id, which, &attr, &now)
                                     : store_setattr(mount->store, id, which, &attr, &now);
    if (r == 0 && attr_privileges(&now) != 0 && backings_written_by_users(mount->backings, id) &&
        (r = privileges_given(&mount->privileges, &now)) < 0)
        (void)privileges_take(mount->store, id);
    if (r < 0)
        reply_result(req, r);
    else
        reply_attr(req, &now);
}

void ops_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct mount *mount = request_begin(req, METRICS_readlink);
    char target[STORE_SYMLINK_MAX + 1];
    ssize_t n = store_read(mount->store, id, target, sizeof(target) - 1, 0);
    if (n < 0) {
        reply_result(req, (int)n);
        return;
    }
    target[n] = '\0';
    fuse_reply_readlink(req, target);
}

void ops_statfs(fuse_req_t req, fuse_ino_t id)
{
    struct mount *mount = request_begin(req, METRICS_statfs);
    struct store_stat s;
    int r = store_stat(mount->store, false, &s);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    /* Pages that the store can use again are free, though the disk doesn't know. */
    uint64_t inside = s.reusable_bytes;
    struct statvfs st = {
        .f_bsize = STATFS_BLOCK,
        .f_frsize = STATFS_BLOCK,
        .f_blocks = s.disk_total / STATFS_BLOCK,
        .f_bfree = (s.disk_free + inside) / STATFS_BLOCK,
        .f_bavail = (s.disk_available + inside) / STATFS_BLOCK,
        .f_ffree = (s.disk_available + inside) / RECORD_LEAST,
        .f_namemax = STORE_NAME_MAX,
    };
    st.f_favail = st.f_ffree;
    st.f_files = s.records + st.f_ffree;
    fuse_reply_statfs(req, &st);
}
