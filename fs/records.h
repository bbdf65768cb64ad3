/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * records.h: what a mount is tuned for. A mount for small records spares the requests of opening;
 * one for large records needs them, to hand files over to the kernel (backing.h). The kernel can't
 * do both on one mount.
 */
#ifndef FS_RECORDS_H
#define FS_RECORDS_H

#include "store/store.h"
#include "ways.h"

enum records_mode { RECORDS_AUTO, RECORDS_SMALL, RECORDS_LARGE };

/* "auto", "small" or "large"; -EINVAL. */
int records_parse(const char *text, enum records_mode *mode);

/* RECORDS_SMALL or RECORDS_LARGE: as it is wished for, or as fits what the store holds. Sets
 * WAY_records. Takes milliseconds, whatever the store's size. */
enum records_mode records_choose(enum records_mode wish, struct store *store, struct ways *ways);

#endif
