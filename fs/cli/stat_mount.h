/* SPDX-License-Identifier: BSD-2-Clause */
/* stat_mount.h: what a mount says about itself, for people. */
#ifndef FS_CLI_STAT_MOUNT_H
#define FS_CLI_STAT_MOUNT_H

/* Print what the mount on `point`, which shows `source`, does and in which ways. Returns the exit
 * code; a failure is one line on standard error. */
int stat_mount(const char *point, const char *source);

#endif
