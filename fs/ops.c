/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>

#include "mount.h"
#include "reply.h"

/* ---------------------------------------------------- what we don't do -- */

/*
 * These only count and refuse. After ENOSYS the kernel does without and asks no more, except for
 * ioctl, which it asks each time: Python's open() wants to know whether a file is a terminal.
 */

static void refuse_ioctl(fuse_req_t req, fuse_ino_t id, unsigned int cmd, void *arg,
                         struct fuse_file_info *fi, unsigned flags, const void *in_buf,
                         size_t in_size, size_t out_size)
{
    request_begin(req, METRICS_ioctl);
    reply_result(req, -ENOTTY);
}

/* Files have no holes to tell of. */
static void refuse_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence,
                         struct fuse_file_info *fi)
{
    request_begin(req, METRICS_lseek);
    reply_result(req, -ENOSYS);
}

/* Then the kernel copies through its page cache. */
static void refuse_copy(fuse_req_t req, fuse_ino_t from, off_t from_offset,
                        struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_offset,
                        struct fuse_file_info *to_fi, size_t size, int flags)
{
    request_begin(req, METRICS_copy_file_range);
    reply_result(req, -ENOSYS);
}

static void refuse_poll(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi,
                        struct fuse_pollhandle *handle)
{
    request_begin(req, METRICS_poll);
    if (handle != NULL)
        fuse_pollhandle_destroy(handle);
    reply_result(req, -ENOSYS);
}

static void refuse_bmap(fuse_req_t req, fuse_ino_t id, size_t block_size, uint64_t index)
{
    request_begin(req, METRICS_bmap);
    reply_result(req, -ENOSYS);
}

static void refuse_access(fuse_req_t req, fuse_ino_t id, int mask)
{
    request_begin(req, METRICS_access);
    reply_result(req, -ENOSYS);
}

const struct fuse_lowlevel_ops ops = {
    .init = mount_negotiate,
    .lookup = ops_lookup,
    .forget = ops_forget,
    .forget_multi = ops_forget_multi,
    .mknod = ops_mknod,
    .mkdir = ops_mkdir,
    .symlink = ops_symlink,
    .create = ops_create,
    .tmpfile = ops_tmpfile,
    .unlink = ops_unlink,
    .rmdir = ops_rmdir,
    .link = ops_link,
    .rename = ops_rename,
    .getattr = ops_getattr,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    .statx = ops_statx,
#endif
    .setattr = ops_setattr,
    .readlink = ops_readlink,
    .statfs = ops_statfs,
    .getxattr = ops_getxattr,
    .listxattr = ops_listxattr,
    .setxattr = ops_setxattr,
    .removexattr = ops_removexattr,
    .open = ops_open,
    .read = ops_read,
    .write = ops_write,
    .flush = ops_flush,
    .release = ops_release,
    .fsync = ops_fsync,
    .fallocate = ops_fallocate,
    .opendir = ops_opendir,
    .readdir = ops_readdir,
    .readdirplus = ops_readdirplus,
    .releasedir = ops_releasedir,
    .fsyncdir = ops_fsyncdir,
    .ioctl = refuse_ioctl,
    .lseek = refuse_lseek,
    .copy_file_range = refuse_copy,
    .poll = refuse_poll,
    .bmap = refuse_bmap,
    .access = refuse_access,
};
