/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * readahead.h: how far the kernel reads ahead in the files of a mount. It starts with 128 KiB for
 * every filesystem, which makes a trip to the daemon of each 128 KiB; who may, tells it more.
 */
#ifndef FS_READAHEAD_H
#define FS_READAHEAD_H

#include <stddef.h>
#include <sys/types.h>

/* From now on up to `bytes`, on the filesystem with this device number. -EACCES and others: it
 * stays as it is. */
int readahead_raise(dev_t device, size_t bytes);

#endif
