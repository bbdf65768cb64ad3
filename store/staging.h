/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * staging.h: the bytes of unsealed files.
 *
 * Few and small ones are in memory (staged.h); others in host files in staging/, each named by its
 * record's id. They are there from a file's first byte until its content is committed or the record
 * is removed; a staged record without bytes is empty. A host file is opened for each use: that
 * costs 2 us, and no state that a crash could lose.
 *
 * Others may have a host file open, by staging_open(). Then they see and make its bytes without our
 * doing, and go on with that after our end; the kernel knows of them, and it is asked by a lease
 * (fcntl(2)) that is given back at once. So the process must ignore SIGIO.
 *
 * All return -ENOENT if the file has no bytes, unless they say otherwise. Any thread may call.
 */
#ifndef STORE_STAGING_H
#define STORE_STAGING_H

#include "extent.h"
#include "private.h"

ssize_t staging_read(struct store *store, uint64_t id, void *buffer, size_t size, off_t offset);

/* What changes bytes, and makes them if there are none: all of it, or an error. */
int staging_write(struct store *store, uint64_t id, const void *bytes, size_t size, off_t offset);
int staging_truncate(struct store *store, uint64_t id, uint64_t size);
int staging_allocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length);

/* As futimens(2). */
int staging_times(struct store *store, uint64_t id, const struct timespec times[2]);

/* Put what is known only here (size, times) into the attributes of a staged record. */
int staging_attr(struct store *store, struct store_attr *attr);

/* All the bytes of a file that nobody changes any more, for who copies them from here. To be ended
 * by staging_payload_done(), also after an error. */
int staging_payload(struct store *store, uint64_t id, struct payload *payload);
void staging_payload_done(struct payload *payload);

/*
 * The host file, open for reading; who has it may let others open it for writing past us. With
 * `times` it is made if there is none, with these (of access, of modification), and bytes in memory
 * go there; with NULL they are -ENOENT.
 */
int staging_open(struct store *store, uint64_t id, const struct timespec times[2]);
/* Whether somebody has the host file open for writing, or mapped so: he could go on. With
 * `to_read` also if it is open for reading. */
bool staging_is_open(struct store *store, uint64_t id, bool to_read);

/* Remove the bytes. Not being there is no error. */
int staging_remove(struct store *store, uint64_t id);
/* The same for a file that may take bytes again, unless somebody has the host file open. */
void staging_remove_idle(struct store *store, uint64_t id);
/* The same if they are in memory: a host file may be needed after a crash. */
void staging_drop(struct store *store, uint64_t id);
/* Whether they are in a host file. */
bool staging_is_hosted(struct store *store, uint64_t id);

/* Make the bytes durable, with `data_only` false also the times; 0 if there are none. For who does
 * that with many: the bytes of each, then the names of all host files. */
int staging_sync(struct store *store, uint64_t id, bool data_only);
int staging_sync_bytes(struct store *store, uint64_t id, bool data_only);
int staging_sync_names(struct store *store);
/* Bring what is in memory to the host's filesystem: for the end of the process. */
int staging_settle(struct store *store);

/* The ids of all files that have bytes, in an array to be freed; some twice. */
int staging_list(struct store *store, uint64_t **ids, size_t *count);

#endif
