/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * own.h: the daemon as a user of its own mount, to ask the kernel what only the kernel knows.
 *
 * The way in is a copy of the mount that is attached nowhere, so that umount(8) never finds the
 * mount busy because of us. But the copy keeps the filesystem alive: own_close() it when the mount
 * has gone. What is opened here makes requests that another thread of ours must serve, so take
 * care where these calls are made. Any thread may call.
 */
#ifndef FS_OWN_H
#define FS_OWN_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

struct own {
    pthread_rwlock_t lock; /* guards the rest; held for reading while they are used */
    int copy, root;        /* the copy, and its root directory; -1: closed */
};

void own_init(struct own *own);

/* Get at the mount of `device` on `path`. It must be served already, and OPENDIR be answered.
 * -EPERM: not without CAP_SYS_ADMIN. -ENODEV: something else is mounted there. */
int own_open(struct own *own, const char *path, dev_t device);

/* Let go of the mount. What own_node() has opened stays open. Twice does no harm. */
void own_close(struct own *own);

/* Open node `id`, whatever its name is: a descriptor, or -ESTALE if there is none, -ENODEV after
 * own_close(). With O_PATH it makes no request, neither now nor when it is closed. */
int own_node(struct own *own, uint64_t id, int flags);

/* The node that a handle in a file_handle's f_handle names; 0 if it is none of ours. */
uint64_t own_node_of_handle(int type, const unsigned char *bytes, size_t size);

/* Open a directory by its path from the root, "." being the root itself. */
int own_directory(struct own *own, const char *path);

#endif
