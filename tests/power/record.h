/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h: a library for LD_PRELOAD. What a process does to the files below the directory
 * POWER_ROOT is noted in the file POWER_LOG (log.h). Its children are not recorded.
 *
 * It stands in for the C library's calls, and makes the system calls itself. What it doesn't know
 * of (a writable mapping, io_uring, stdio) it misses: who uses the log finds that out by comparing
 * the files in the end.
 */
#ifndef TESTS_POWER_RECORD_H
#define TESTS_POWER_RECORD_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "log.h"

#pragma GCC visibility push(hidden)

/* More than a daemon has open. */
#define RECORD_FDS 65536

/* A descriptor that leads below the root, by its number; inode 0: it doesn't. */
struct record_file {
    _Atomic uint64_t inode;
    _Atomic bool directory, synchronous;
};
extern struct record_file record_files[RECORD_FDS];

/* The inode below the root that a descriptor leads to, or 0. */
uint64_t record_inode(int fd);
/* Learn what a descriptor, opened with these flags, leads to. */
void record_opened(int fd, int flags);
void record_closed(int fd);

/* What is called so, without the root; NULL if it is not there, or of no interest. The last part
 * of the path need not exist. */
const char *record_name(int dir, const char *path, char buffer[PATH_MAX]);

/*
 * A change of names or of a size is made and noted under a lock, so that all are noted in their
 * true order. False: nothing is recorded, and no more than the system call shall be made (a
 * sanitizer begins with some before anything else works).
 */
bool record_enter(void);
void record_leave(bool entered);

/* Write an entry, its time aside, and return its number. errno stays. With and without the lock. */
uint64_t record_note_locked(struct entry entry, const struct iovec *parts, int count);
uint64_t record_note(struct entry entry, const struct iovec *parts, int count);

/* The recording can't be right. */
void record_die(const char *what) __attribute__((noreturn));

#pragma GCC visibility pop

/* The same function under the name that it has for files of 64-bit sizes. */
#define SAME_AS(function) __attribute__((alias(#function)))

#endif
