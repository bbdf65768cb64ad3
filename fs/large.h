/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h: how the content of large records gets to its readers, on a mount that is tuned for them
 * (records.h). From a clone, by the kernel alone, if kernel, disk and our rights allow that
 * (backing.h). Else through us: the kernel caches it as pages of the mount, and read from the disk
 * directly, it isn't a second time among those of data.mdb.
 *
 * So are new files written: by the kernel alone, into the host file that has the bytes until they
 * are in the store, also where records can't be cloned; else through us.
 *
 * Nothing changes on a mount for small records.
 */
#ifndef FS_LARGE_H
#define FS_LARGE_H

struct fuse_conn_info;
struct mount;

/* When INIT is answered; mount->records is known. Sets mount->backings, WAY_large and
 * WAY_writing. */
void large_negotiate(struct mount *mount, struct fuse_conn_info *conn);

/* When it is mounted; mount->device is known. Sets WAY_readahead. */
void large_read_ahead(struct mount *mount);

#endif
