/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lease.h: who holds which record, counted by id. 16 bytes per slot, at most half of the slots
 * free after growth. Any thread may call.
 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct leases;

struct leases *leases_new(void); /* NULL: no memory */
void leases_free(struct leases *leases);

int leases_add(struct leases *leases, uint64_t id, uint64_t count);
/* Returns true if that was the last one. Dropping more than there are drops them all. */
bool leases_drop(struct leases *leases, uint64_t id, uint64_t count);
bool leases_held(struct leases *leases, uint64_t id);
/* Records held. */
size_t leases_count(struct leases *leases);

#endif
