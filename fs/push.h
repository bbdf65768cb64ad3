/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * push.h: small files' contents are put into the kernel's cache before they are read.
 *
 * A READ costs a round trip and the reader's time; a push (FUSE_NOTIFY_STORE) costs the time of a
 * thread of ours, while the reader is busy with the file before. What will be read next?
 *   - the files whose ids follow: ids are given out in order, so what was written together has ids
 *     in a row, and lies in a row on the disk. The further a reader goes in this way, the more is
 *     pushed ahead of it, and nothing for a `find`, which doesn't read;
 *   - while files are being read, those in a directory that has just been listed;
 *   - and then, if all of it fits into the machine's memory with ease, everything else that the
 * kernel holds, when there is nothing better to do. Only what the kernel holds can be pushed. Any
 * thread may call; none waits.
 */
#ifndef FS_PUSH_H
#define FS_PUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mount;
struct push;

/* Bytes of a file that is pushed: larger ones are read with read-ahead, which is as good. */
#define PUSH_MOST ((size_t)64 << 10)

/* -ENOMEM, -EAGAIN: no thread. */
int push_start(struct mount *mount, struct push **out);
/* Requests must still be served. NULL is allowed. */
void push_stop(struct push *push);
void push_free(struct push *push);

/* The kernel has asked for content of this file. */
void push_read(struct push *push, uint64_t id);

/* The kernel has been told of these files. */
void push_listed(struct push *push, const uint64_t *ids, size_t count);

/* True while small files are being read here and there, so that others will be, too. */
bool push_is_busy(struct push *push);

/* Files pushed so far. */
uint64_t push_count(struct push *push);

#endif
