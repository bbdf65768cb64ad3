/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seal.h: who writes which staged file, and the moment when its content becomes final.
 *
 * A file in this table has writers, or is being sealed, or (for an instant) both wait for
 * each other. The table is small: it holds what is being written now.
 */
#ifndef STORE_SEAL_H
#define STORE_SEAL_H

#include "private.h"

struct writers *writers_new(void); /* NULL: no memory */
void writers_free(struct writers *writers);

/* The end of what store_writer_open() began, without sealing the file: for who kept others from
 * sealing it while he changed something. */
void writers_leave(struct store *store, uint64_t id);

/* Tell the users that a file was sealed behind their backs. */
void seal_tell(struct store *store, uint64_t id);

/* Once more, after -EBUSY: another process has the bytes open for writing, or mapped. */
void seal_again(struct store *store, uint64_t id);

/* The keeper's part of sealing in the background: seal, tell the users, let waiters go on. */
void seal_finish(struct store *store, uint64_t id);

#endif
