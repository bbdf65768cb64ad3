/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attr.h: attributes of records as the kernel wants them, and how long it may believe them.
 */
#ifndef FS_ATTR_H
#define FS_ATTR_H

#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include "store/store.h"

/*
 * Seconds for what changes only through this mount's kernel, or with a notification: practically
 * forever (31 years). Larger values would overflow the kernel's arithmetic on 32-bit machines.
 */
#define ATTR_FOREVER 1e9

struct stat attr_to_stat(const struct store_attr *attr);

/* Seconds for which the kernel may keep these attributes. */
double attr_timeout(const struct store_attr *attr);

/* The same as an entry, whose name may be kept forever. */
struct fuse_entry_param attr_to_entry(const struct store_attr *attr);

/* Those of the file's set-uid and set-gid bits that a write must take away, as write(2) says. */
uint32_t attr_privileges(const struct store_attr *attr);

/* `to_set` and `wanted` of a SETATTR as store_setattr() takes them: returns `which`, fills `attr`.
 */
unsigned attr_from_setattr(const struct stat *wanted, int to_set, struct store_attr *attr);

#endif
