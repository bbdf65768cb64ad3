/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * closing.h: who writes a file, on a mount where the kernel tells nobody: OPEN and RELEASE are not
 * asked any more (see mount.h). So we ask the kernel:
 *
 *   fanotify   tells when a descriptor, or a mapping, that could write a file has been closed;
 *   a lease    (fcntl F_SETLEASE) is granted only if no such thing is left, and while we hold it,
 *              who opens the file for writing waits. Under it a file is sealed.
 *
 * The leases are taken by our companion (companion.h). A thread listens and seals. Any thread may
 * call.
 */
#ifndef FS_CLOSING_H
#define FS_CLOSING_H

#include <stdbool.h>
#include <stdint.h>

struct closing;
struct mount;

/* -EOPNOTSUPP, -EPERM and the like: the kernel can't, or we must not. Needs the companion. */
int closing_start(struct mount *mount, struct closing **out);

/* Seal what can be, and stop listening. Requests may still come in. NULL is allowed; twice does no
 * harm. */
void closing_stop(struct closing *closing);
/* After closing_stop(). NULL is allowed. */
void closing_free(struct closing *closing);

/* Somebody writes the file: seal it when he has closed it. Cheap: most have when they are moved to
 * their place, or a moment later, so nothing is done before that. */
void closing_written(struct closing *closing, uint64_t id);

/* Somebody has tried to write a published file. That was refused, but his bytes are in the
 * kernel's cache, for all to see: have them dropped. */
void closing_heal(struct closing *closing, uint64_t id);

/* Whether somebody has it open, or mapped, so that he could write it. */
bool closing_is_written(struct closing *closing, uint64_t id);

/* Seal the file now: 0, also if it was sealed before; -EBUSY while somebody has it open for
 * writing, or if too many do this at a time: then it is sealed later. -ENODEV: the kernel can't be
 * asked any more. */
int closing_seal(struct closing *closing, uint64_t id);

#endif
