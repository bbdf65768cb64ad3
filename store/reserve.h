/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reserve.h: room on the disk that is kept by taking it: a file without a name, which gets smaller
 * when the room is needed. For as long as somebody writes to the disk past us (see
 * store_staging_file()), who asks nobody whether there is room for it. Where files can't have
 * blocks without content, nothing is kept.
 *
 * Any thread may call.
 */
#ifndef STORE_RESERVE_H
#define STORE_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

struct reserve;

/* On the disk of that directory, a descriptor that is borrowed. NULL: no memory. */
struct reserve *reserve_new(int dir_fd);
void reserve_free(struct reserve *reserve);

/* From now on it keeps something; until then the calls below do nothing, also with NULL. */
void reserve_begin(struct reserve *reserve);
bool reserve_begun(const struct reserve *reserve);

/* Bytes that are kept: they are free, though the disk doesn't say so. */
uint64_t reserve_bytes(const struct reserve *reserve);

/* Keep so many bytes, more or less than until now. -ENOSPC: there are fewer. */
int reserve_keep(struct reserve *reserve, uint64_t bytes);

/* Have the disk show at least so many free bytes to us, as far as what is kept goes. */
void reserve_let(struct reserve *reserve, uint64_t bytes);

/* Give up all that is kept; false if that is nothing. */
bool reserve_release(struct reserve *reserve);

#endif
