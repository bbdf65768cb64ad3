/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * staged.h: the bytes of small unsealed files, in memory: most files are small, and have been
 * written, closed and committed before anybody could want them on the disk.
 *
 * Only staging.h uses it: it moves to the host's filesystem what gets large, or has to be durable.
 * Calls that take a file need the table's lock held.
 */
#ifndef STORE_STAGED_H
#define STORE_STAGED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Larger files go to the host's filesystem; bytes. */
#define STAGED_FILE_MOST ((size_t)64 << 10)

struct staged_file {
    uint64_t id;
    char *bytes;
    size_t size, room; /* bytes */
    struct timespec atime, mtime, ctime;
    struct staged_file *next;
};

struct staged;

/* `most`: bytes of all of them. */
struct staged *staged_new(size_t most); /* NULL: no memory */
void staged_free(struct staged *staged);

pthread_mutex_t *staged_lock(struct staged *staged);

struct staged_file *staged_find(struct staged *staged, uint64_t id); /* NULL: not here */
/* A file without bytes. NULL: no memory. */
struct staged_file *staged_add(struct staged *staged, uint64_t id);
void staged_remove(struct staged *staged, uint64_t id);

/* False: it gets too large, or together they do; nothing has changed. New bytes are zeroes. */
bool staged_resize(struct staged *staged, struct staged_file *file, uint64_t size);

/* Any of them, NULL if there is none. */
struct staged_file *staged_first(struct staged *staged);

/* The ids of all of them, up to `most`; returns how many there are. */
size_t staged_list(struct staged *staged, uint64_t *ids, size_t most);

/* Bytes of all of them; no lock needed. */
size_t staged_bytes(const struct staged *staged);

#endif
