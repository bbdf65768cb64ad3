/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone.h: what making a clone and comparing it have in common: see store_clone() and
 * store_clone_verify().
 */
#ifndef STORE_CLONE_H
#define STORE_CLONE_H

#include "extent.h"

/* Extents that are looked up in one transaction: 4 KiB of memory. */
#define CLONE_SPANS 64

/* Record `id`, if it is a sealed file of more than a page, with all its extents written. -EINVAL:
 * it is not. */
int clone_record(struct store *store, uint64_t id, struct layout_record *record);

/* The extents that have [offset, offset + length) of such a record in them, or the first of these:
 * how many were found. In a transaction of its own; the places outlive it, see extent.h. */
int clone_locate(struct store *store, const struct layout_record *record, uint64_t offset,
                 uint64_t length, struct span spans[CLONE_SPANS]);

#endif
