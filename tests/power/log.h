/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h: what record.c writes and tests/e2e/power_disk.py reads: an entry for each change and each
 * sync of the files below a directory, in the order in which they happened. Numbers are those of
 * this machine.
 *
 * A write and a change of names is noted when it has returned, a sync when it begins and when it
 * has returned: so whatever is noted before a sync begins is covered by it. A write that is also a
 * sync (O_DSYNC) is noted twice, too.
 */
#ifndef TESTS_POWER_LOG_H
#define TESTS_POWER_LOG_H

#include <stdint.h>

enum entry_kind {
    ENTRY_CREATE = 1, /* payload: name */
    ENTRY_MKDIR,      /* payload: name */
    ENTRY_REMOVE,     /* payload: name */
    ENTRY_RENAME,     /* payload: old name, NUL, new name */
    ENTRY_LINK,       /* payload: new name; one that O_TMPFILE made comes to be by this */
    ENTRY_WRITE,      /* a: offset, b: the descriptor is O_DSYNC, payload: bytes */
    ENTRY_WRITTEN,    /* a: number of that entry, which has reached the disk */
    ENTRY_TRUNCATE,   /* a: size */
    ENTRY_ZERO,       /* a: offset, b: length */
    ENTRY_EXTEND,     /* a: size, if it is larger than the file */
    ENTRY_TIMES,      /* a: modification time, ns */
    ENTRY_SYNC,       /* a: data only */
    ENTRY_SYNCED,     /* a: number of the entry with which it began */
};

struct entry {
    uint64_t time; /* CLOCK_MONOTONIC, ns */
    uint64_t kind;
    uint64_t inode; /* of the file or directory; 0: all (syncfs) */
    uint64_t a, b;
    uint64_t length; /* of the payload, which follows */
};

#endif
