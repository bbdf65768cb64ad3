/* SPDX-License-Identifier: BSD-2-Clause */
#include "large.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backing.h"
#include "mount.h"
#include "readahead.h"

/*
 * Bytes in one READ or WRITE at most, where reads go to the disk: several smaller ones at a time
 * keep it as busy as one large one, take less memory, and a page in the middle is there earlier.
 * Cold, 64 MiB in a mapping at random places: 75 ms with this, 98 with 1 MiB; sequentially there is
 * no difference.
 */
#define TRANSFER_LARGE (256u << 10)

/* Bytes that are read ahead. On a disk of 1.5 GB/s, cold: 1 MiB takes 0.6 of
 * the time of 128 KiB, 4 MiB no less; at random places in a mapping more is only read in vain. */
#define READAHEAD_LARGE ((size_t)1 << 20)

/* Whether we may have the kernel read files by itself. */
static bool has_admin_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

/* Whether the kernel can be handed files at all: NULL, or what is missing. */
static const char *missing_for_passthrough(struct mount *mount, struct fuse_conn_info *conn)
{
    if (mount->records != RECORDS_LARGE)
        return "the mount is tuned for small records";
    if (!has_admin_rights())
        return "no CAP_SYS_ADMIN, which passthrough needs";
    if (!fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH))
        return "the kernel has no FUSE passthrough";
    fuse_unset_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
    return NULL;
}

/* The same for large records, before that. */
static const char *missing_for_clones(struct mount *mount, char why[STORE_WHY_MAX])
{
    if (mount->records == RECORDS_LARGE && mount->options->verify == STORE_VERIFY_ALWAYS)
        return "verify=always, and the kernel compares nothing";
    return mount->records == RECORDS_LARGE && store_can_clone(mount->store, why) < 0 ? why : NULL;
}

static const char *missing_for_staged(struct mount *mount, char why[STORE_WHY_MAX])
{
    if (mount->options->read_only)
        return "the mount is read-only";
    return store_can_share_staging(mount->store, why) < 0 ? why : NULL;
}

static bool start_backings(struct mount *mount, struct fuse_conn_info *conn, bool clones,
                           bool staged)
{
    const struct backings_wish wish = {clones, staged, mount->options->clones};
    mount->backings = backings_new(mount->store, &mount->ways, &wish);
    if (mount->backings == NULL)
        return false;
    (void)fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
    conn->max_backing_stack_depth = 0; /* host files don't lie on a stacked filesystem */
    return true;
}

void large_negotiate(struct mount *mount, struct fuse_conn_info *conn)
{
    char why_clones[STORE_WHY_MAX], why_staged[STORE_WHY_MAX], no_direct[STORE_WHY_MAX];
    if (mount->records == RECORDS_LARGE)
        conn->max_write = TRANSFER_LARGE;
    const char *missing = missing_for_passthrough(mount, conn);
    const char *no_clones = missing_for_clones(mount, why_clones);
    const char *no_staged = missing != NULL ? missing : missing_for_staged(mount, why_staged);
    no_clones = no_clones != NULL ? no_clones : missing;
    if ((no_clones == NULL || no_staged == NULL) &&
        !start_backings(mount, conn, no_clones == NULL, no_staged == NULL))
        no_clones = no_staged = "no memory";
    bool direct =
        mount->records == RECORDS_LARGE && store_read_direct(mount->store, no_direct) == 0;
    ways_set(&mount->ways, WAY_large,
             no_clones == NULL ? "reflink + passthrough"
             : direct          ? "direct I/O"
                               : "pread",
             no_clones == NULL ? NULL : "%s", no_clones);
    ways_set(&mount->ways, WAY_writing, no_staged == NULL ? "passthrough" : "through the daemon",
             no_staged == NULL ? NULL : "%s", no_staged);
}

void large_read_ahead(struct mount *mount)
{
    if (mount->records != RECORDS_LARGE)
        return;
    int r = readahead_raise(mount->device, READAHEAD_LARGE);
    if (r == 0)
        ways_set(&mount->ways, WAY_readahead, "1 MiB", NULL);
    else
        ways_set(&mount->ways, WAY_readahead, "the kernel's", "can't raise it: %s", strerror(-r));
}
