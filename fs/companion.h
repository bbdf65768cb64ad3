/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * companion.h: a second process of ours, which uses the mount as others do: to list a tree before
 * somebody looks for names in it (prewalk.h), to have attributes refreshed (refresh.h), and to ask
 * by a lease who has a file open for writing (closing.h).
 *
 * It must not be the daemon itself: a thread of the daemon that waits for an answer of the daemon
 * can't be killed, keeps /dev/fuse open, and so kill -9 would leave a process that never ends
 * and users who wait for ever. When the daemon dies, in whatever way, the companion breaks the
 * connection off, which frees who waits, also threads of the daemon that wait for a page of
 * the mount (push.h); then it ends.
 *
 * The way in is a copy of the mount that is attached nowhere, so that umount(8) never finds the
 * mount busy because of us; but it keeps the filesystem alive until companion_stop(). Needs
 * CAP_SYS_ADMIN. Any thread may call, except where noted.
 */
#ifndef FS_COMPANION_H
#define FS_COMPANION_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct companion;

/*
 * Start it for the mount of `device` on `path`, which must be served already, with OPENDIR
 * answered. From the process's main thread, whose end is the sign that the daemon dies.
 * -EPERM: not without CAP_SYS_ADMIN. -ENODEV: something else is mounted there.
 */
int companion_start(const char *path, dev_t device, struct companion **out);
/* Have it let go of the mount and end. The calls below then return -ENODEV. NULL is allowed; twice
 * does no harm. */
void companion_stop(struct companion *companion);
void companion_free(struct companion *companion);

/* True if it is the companion who lists. `pid` is what the kernel says of who makes a request: a
 * thread's id. */
bool companion_walks(const struct companion *companion, pid_t pid);

/* fanotify's descriptor, which tells (FAN_REPORT_FID) when a marked file that was open for writing
 * has been closed; borrowed. Negative: this kernel can't. */
int companion_events(const struct companion *companion);
/* Mark a file for that. It may make a request, so not while one is being served. -ESTALE: there is
 * no such node. */
int companion_mark(struct companion *companion, uint64_t id);
/* The node that a handle of the mount names; 0 if it makes no sense. */
uint64_t companion_node_of(const struct file_handle *handle);

/*
 * Take a read lease: 0, and nobody can open the file for writing until companion_unlease(); -EBUSY
 * while somebody has, but then what he has stored through a mapping has been written. -ESTALE:
 * there is no such node.
 */
int companion_lease(struct companion *companion, uint64_t id);
void companion_unlease(struct companion *companion, uint64_t id);

/* List the directory at a path from the root ("." is the root), or with `tree` all below it, too,
 * on several threads. Returns when that is done. */
int companion_list(struct companion *companion, const char *path, bool tree);

/* Have companion_list() return at once, with -ENODEV, now and from now on. */
void companion_end_list(struct companion *companion);

/* Ask for the attributes of what is at a path. */
int companion_stat(struct companion *companion, const char *path);

/* The process's own part: what `lmdbfs companion` does. */
int companion_main(void);

#endif
