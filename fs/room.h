/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * room.h: whether a store is small beside the memory that the machine has free, so that all of it
 * may be given to the kernel before it is asked for. Asks the kernel and the store: not for each
 * request. Any thread may call.
 */
#ifndef FS_ROOM_H
#define FS_ROOM_H

#include <stdbool.h>

struct mount;

/* The names and attributes of all files, also beside what -o memory leaves us to note who is held.
 */
bool room_for_names(struct mount *mount);

/* All contents, too, and they are small files' (of large ones nobody wants all at once). */
bool room_for_all(struct mount *mount);

#endif
