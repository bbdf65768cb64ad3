/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * beside.h: reading a store while it is mounted. Other processes see what is committed, and a mount
 * commits a moment after it shows a change: so it is asked to do so first, by fsync(2).
 */
#ifndef FS_CLI_BESIDE_H
#define FS_CLI_BESIDE_H

#include <stdbool.h>

#include "store/store.h"

/* What a mount's owner of a store does with it, see store_options; the mount point follows. */
#define BESIDE_MOUNTED "mounted on "

/*
 * For a store that was opened read-only: false if nobody else has it open for writing; true, and
 * `by` says who, for a person. A mount has committed what it showed before then, unless it doesn't
 * answer for some seconds: that is told on standard error.
 */
bool beside_owner(struct store *store, const char *command, char by[STORE_WHY_MAX]);

#endif
