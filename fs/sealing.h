/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sealing.h: when the content of a file becomes final, in both of a mount's modes (mount.h).
 *
 * With OPEN the store counts the writers; without it, closing.h asks the kernel. Any thread may
 * call.
 */
#ifndef FS_SEALING_H
#define FS_SEALING_H

#include "mount.h"

/* Seal the file now: 0, also if it was sealed before; -EBUSY while somebody writes it, who will
 * have it sealed when he closes it. The kernel knows of it when this returns. Waits
 * while much is to be committed, see store_pace(). */
int sealing_now(struct mount *mount, uint64_t id);

/* Before a tree leaves staging: see store_settle_staged(). */
int sealing_staged(struct mount *mount);

/* A file that is held and sealed is about to leave staging: if somebody can write it, it is opened
 * again, and will be sealed when he closes it: 1; else 0. */
int sealing_leaves(struct mount *mount, uint64_t id);

/* A file is not held any more, and not sealed: it shall be when nobody writes it. */
void sealing_released(struct mount *mount, uint64_t id);

/* In a request that has changed the content of an unsealed file: it shall be sealed when who did
 * that has closed it, or at once if he never had it open. */
void sealing_written(struct mount *mount, uint64_t id);

/* In a request that is refused because the file is sealed: without OPEN, the writer's bytes are in
 * the kernel's cache already. They will go from there soon after the answer. */
void sealing_refused(struct mount *mount, uint64_t id);

#endif
