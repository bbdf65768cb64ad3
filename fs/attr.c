/* SPDX-License-Identifier: BSD-2-Clause */
#include "attr.h"

#include "stats.h"

/* What programs should read and write at once, for those that ask: a page. */
#define BLOCK_SIZE 4096

/*
 * Sealing changes the attributes of a file, and the kernel is told. But a LOOKUP that read them
 * before and is answered after that notice brings a new inode with old attributes, since the
 * notice found no inode to work on. It heals after this time, in seconds.
 */
#define UNSEALED_TIMEOUT 1.0

struct stat attr_to_stat(const struct store_attr *attr)
{
    return (struct stat){
        .st_ino = stats_is_node(attr->id) ? STORE_STATS_ID : attr->id,
        .st_mode = attr->mode,
        .st_nlink = attr->nlink,
        .st_uid = attr->uid,
        .st_gid = attr->gid,
        .st_size = (off_t)attr->size,
        .st_blocks = (blkcnt_t)attr->blocks,
        .st_blksize = BLOCK_SIZE,
        .st_atim = attr->atime,
        .st_mtim = attr->mtime,
        .st_ctim = attr->ctime,
    };
}

double attr_timeout(const struct store_attr *attr)
{
    /* An empty file is sealed only after somebody wrote it, so its inode is there to be told. */
    bool will_be_sealed =
        S_ISREG(attr->mode) && !attr->sealed && attr->size > 0 && !stats_is_node(attr->id);
    return will_be_sealed ? UNSEALED_TIMEOUT : ATTR_FOREVER;
}

struct fuse_entry_param attr_to_entry(const struct store_attr *attr)
{
    return (struct fuse_entry_param){
        .ino = attr->id,
        .attr = attr_to_stat(attr),
        .attr_timeout = attr_timeout(attr),
        .entry_timeout = stats_is_node(attr->id) ? 0 : ATTR_FOREVER,
    };
}

uint32_t attr_privileges(const struct store_attr *attr)
{
    if (!S_ISREG(attr->mode))
        return 0;
    /* Without execution by the group, set-gid means something else (mandatory locks, once). */
    return attr->mode & ((attr->mode & S_IXGRP) ? S_ISUID | S_ISGID : S_ISUID);
}

static struct timespec now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time;
}

unsigned attr_from_setattr(const struct stat *wanted, int to_set, struct store_attr *attr)
{
    *attr = (struct store_attr){
        .mode = wanted->st_mode,
        .uid = wanted->st_uid,
        .gid = wanted->st_gid,
        .size = (uint64_t)wanted->st_size,
        .atime = (to_set & FUSE_SET_ATTR_ATIME_NOW) ? now() : wanted->st_atim,
        .mtime = (to_set & FUSE_SET_ATTR_MTIME_NOW) ? now() : wanted->st_mtim,
    };
    unsigned which = 0;
    if (to_set & FUSE_SET_ATTR_MODE)
        which |= STORE_SET_MODE;
    if (to_set & FUSE_SET_ATTR_UID)
        which |= STORE_SET_UID;
    if (to_set & FUSE_SET_ATTR_GID)
        which |= STORE_SET_GID;
    if (to_set & FUSE_SET_ATTR_SIZE)
        which |= STORE_SET_SIZE;
    if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
        which |= STORE_SET_ATIME;
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
        which |= STORE_SET_MTIME;
    return which;
}
