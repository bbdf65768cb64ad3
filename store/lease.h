/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lease.h: who holds which record, counted by id. Takes less than 16 bytes for a record that is
 * held now, also while it grows, and LEASES_BASE beside that. Any thread may call.
 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes: two pages for each of the 64 parts of the table, one of them while it is replaced. */
#define LEASES_BASE ((size_t)512 << 10)

struct leases;

/* `limit` bytes for the table at most; 0 = any number. NULL: no memory. */
struct leases *leases_new(size_t limit);
void leases_free(struct leases *leases);

/* -ENOMEM: no memory, or the limit is reached. */
int leases_add(struct leases *leases, uint64_t id, uint64_t count);
/* Returns true if that was the last one. Dropping more than there are drops them all. */
bool leases_drop(struct leases *leases, uint64_t id, uint64_t count);
bool leases_held(struct leases *leases, uint64_t id);
/* Records held. */
size_t leases_count(struct leases *leases);
/* Some of the ids that are held, `most` at most, from *position on (0 at first), which is moved
 * on; round and round, so that many calls give nearly all. 0 if nothing is held. */
size_t leases_list(struct leases *leases, uint64_t *position, uint64_t *ids, size_t most);

/* More than 7/8 of the limit is taken. */
bool leases_crowded(const struct leases *leases);

/* What the table takes now, bytes. */
size_t leases_bytes(const struct leases *leases);

#endif
