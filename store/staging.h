/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * staging.h: the host files in staging/, where the bytes of unsealed files are.
 *
 * A file is named by its record's id, made with its first byte and gone when the record is sealed
 * or removed; a staged record without one is empty. Opened for each use: that costs 2 µs, and no
 * state that a crash could lose.
 */
#ifndef STORE_STAGING_H
#define STORE_STAGING_H

#include <sys/stat.h>

#include "private.h"

/* Flags as for open(2); with O_CREAT it is made. Returns a descriptor; -ENOENT. */
int staging_open(struct store *store, uint64_t id, int flags);
/* -ENOENT if the file has no bytes yet. */
int staging_stat(struct store *store, uint64_t id, struct stat *st);
/* Not being there is no error. */
int staging_remove(struct store *store, uint64_t id);
/* Make bytes, times and the file itself durable; 0 if there is none. */
int staging_sync(struct store *store, uint64_t id, bool data_only);

/* The ids of all staged files, in an array to be freed. */
int staging_list(struct store *store, uint64_t **ids, size_t *count);

/* Put what only the host file knows (size, times) into the attributes of a staged record.
 * -ENOENT if it has no bytes yet. */
int staging_attr(struct store *store, struct store_attr *attr);

#endif
