/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ops.h: the answers to the kernel's requests, one function for each kind; libfuse's
 * fuse_lowlevel.h says what each gets and must reply.
 *
 * Everything is keyed on node ids and nothing on file handles (but see backing.h): a mount may do
 * without OPEN and RELEASE, and a successor of this process knows no handles of ours. Permissions
 * are checked by the kernel (default_permissions), before it asks. They run on many threads at
 * once.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include <fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops ops;

/* ops_name.c: entries of directories */
void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_forget(fuse_req_t req, fuse_ino_t id, uint64_t count);
void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *fi);
void ops_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);

/* ops_publish.c: moving names, and what has to be finished before */
void ops_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                const char *new_name, unsigned int flags);

/* ops_attr.c: attributes */
void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *wanted, int to_set,
                 struct fuse_file_info *fi);
void ops_readlink(fuse_req_t req, fuse_ino_t id);
void ops_statfs(fuse_req_t req, fuse_ino_t id);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
void ops_statx(fuse_req_t req, fuse_ino_t id, int flags, int mask, struct fuse_file_info *fi);
#endif

/* ops_xattr.c: extended attributes, of which there is one */
void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size,
                  int flags);
void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);

/* ops_file.c: content */
void ops_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
void ops_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
               struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi);
void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
                   struct fuse_file_info *fi);

/* ops_dir.c: listings */
void ops_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t cursor,
                 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t cursor,
                     struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_fsyncdir(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi);

#endif
