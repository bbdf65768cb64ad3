/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hosted.h: the host files in staging/, each named by the id of its record in 16 hex digits. Only
 * staging.h uses them. A descriptor is opened for each use, and is the caller's to close; nothing
 * is remembered. -ENOENT: there is no such file, or, in a store that is only read, no staging/.
 */
#ifndef STORE_HOSTED_H
#define STORE_HOSTED_H

#include <sys/stat.h>

#include "private.h"

/* Flags as of open(2). Opened for reading only, reading does not move the access time. */
int hosted_open(struct store *store, uint64_t id, int flags);
/* For reading. A file that was removed while somebody had us wait for it is none of ours any more:
 * -ENOENT. */
int hosted_open_existing(struct store *store, uint64_t id);

int hosted_stat(struct store *store, uint64_t id, struct stat *st);
bool hosted_exists(struct store *store, uint64_t id);

/* All of it, or an error. */
int hosted_write(int fd, const char *bytes, size_t size, off_t offset);
/* Not being there is no error. */
int hosted_remove(struct store *store, uint64_t id);

/* A lease (F_RDLCK, F_WRLCK) as long as the descriptor is open: who opens the file otherwise waits.
 * -EAGAIN: somebody has it open in a way that doesn't go with it. */
int hosted_lease(struct store *store, uint64_t id, int kind);

struct hosted_ids {
    uint64_t *ids;
    size_t count, room;
};
void hosted_ids_free(struct hosted_ids *list);

/* Adds the ids of all of them. */
int hosted_list(struct store *store, struct hosted_ids *list);

#endif
