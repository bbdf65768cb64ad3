/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h: work on a whole store touches all of LMDB's map, and the kernel maps 15 more pages
 * around each one touched: without giving them back, a process would seem to need as much memory as
 * the tree has. What is given back stays in the page cache for as long as that pleases.
 */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H

#include <stdint.h>

struct store;

/* Where the map is; zeros at first. */
struct memory {
    uintptr_t start, end;
};

/* If this process has much in memory, give back what it has of the map that `inside` points into.
 * Safe beside all else that reads the map; takes about 1 ms per 2 GiB, or 10 µs if it is not
 * needed. */
void memory_give_back(struct memory *memory, const void *inside);
/* The same without a pointer at hand. No transaction may be open. */
void memory_trim(struct memory *memory, struct store *store);

#endif
