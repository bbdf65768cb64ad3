/* SPDX-License-Identifier: BSD-2-Clause */
/* negotiate.c: what is agreed with the kernel when it says INIT. */
#include "large.h"
#include "mount.h"
#include "store/util.h"
#include "uring.h"

/* Bytes in one READ or WRITE, and in one read-ahead, at most: what the kernel's default limit of
 * 256 pages allows. */
#define TRANSFER_MAX (1u << 20)

/*
 * What we want of the kernel. Everything is said explicitly, since libfuse's defaults change, and a
 * successor of this process must come to the same result.
 */
static const struct {
    uint64_t feature;
    bool on;
} features[] = {
    {FUSE_CAP_ASYNC_READ, true},
    {FUSE_CAP_ASYNC_DIO, true},
    {FUSE_CAP_PARALLEL_DIROPS, true},
    {FUSE_CAP_CACHE_SYMLINKS, true},
    /* A listing is nearly always followed by a stat of what it named. */
    {FUSE_CAP_READDIRPLUS, true},
    {FUSE_CAP_READDIRPLUS_AUTO, false},
    /* The truncation would be part of OPEN, which may not be asked. */
    {FUSE_CAP_ATOMIC_O_TRUNC, false},
    /* Content never changes under its id, so the kernel shall not drop pages because of a time. */
    {FUSE_CAP_AUTO_INVAL_DATA, false},
    {FUSE_CAP_EXPLICIT_INVAL_DATA, true},
    /* Ids are for ever, so file handles work, also over NFS and after a restart. */
    {FUSE_CAP_EXPORT_SUPPORT, true},
    /* The data would arrive after the rename that publishes it. */
    {FUSE_CAP_WRITEBACK_CACHE, false},
    /* With V2 we take the set-uid bits away ourselves, and the kernel asks for security.capability
     * once per written file; without, before each write: 44 instead of 25 us for 4 KiB. */
    {FUSE_CAP_HANDLE_KILLPRIV, false},
    {FUSE_CAP_HANDLE_KILLPRIV_V2, true},
    /* Slower in all that was measured, and a request in a pipe can't be looked at. */
    {FUSE_CAP_SPLICE_READ, false},
    {FUSE_CAP_SPLICE_WRITE, false},
    {FUSE_CAP_SPLICE_MOVE, false},
    /* Locks are the kernel's business, there is nobody else who could hold any. */
    {FUSE_CAP_POSIX_LOCKS, false},
    {FUSE_CAP_FLOCK_LOCKS, false},
    {FUSE_CAP_POSIX_ACL, false},
    {FUSE_CAP_DONT_MASK, false},
    {FUSE_CAP_IOCTL_DIR, false},
    {FUSE_CAP_NO_OPEN_SUPPORT, true},
    {FUSE_CAP_NO_OPENDIR_SUPPORT, true},
    {FUSE_CAP_PASSTHROUGH, false}, /* see large_negotiate() */
#ifdef FUSE_CAP_OVER_IO_URING
    {FUSE_CAP_OVER_IO_URING, false}, /* that would be libfuse's rings; uring.h has ours */
#endif
};

void mount_negotiate(void *userdata, struct fuse_conn_info *conn)
{
    struct mount *mount = userdata;
    for (size_t i = 0; i < array_length(features); i++) {
        if (features[i].on)
            (void)fuse_set_feature_flag(conn, features[i].feature); /* if there is such */
        else
            fuse_unset_feature_flag(conn, features[i].feature);
    }
    mount->can_skip_open = fuse_get_feature_flag(conn, FUSE_CAP_NO_OPEN_SUPPORT);
    mount->can_skip_opendir = fuse_get_feature_flag(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
    conn->max_write = mount->rings.used ? URING_TRANSFER_MAX : TRANSFER_MAX;
    conn->max_readahead = TRANSFER_MAX;
    conn->max_read = mount->options->max_read;
    conn->time_gran = 1;
    /* No request waits for something that an interrupt could cut short. */
    conn->no_interrupt = 1;
    large_negotiate(mount, conn);
}
