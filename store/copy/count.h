/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * count.h: how much there is in a tree of host files, found out by a thread beside the work
 * on it. A guess for progress only: what can't be read is left out.
 */
#ifndef STORE_COUNT_H
#define STORE_COUNT_H

#include "store.h"

struct count;

/* Begin to count what is below directory `fd`. NULL if that is not possible now. */
struct count *count_start(int fd);

/* Files (of every kind, directories too) and bytes in all; 0 until everything is counted. */
void count_get(const struct count *count, struct store_work *all);

/* End it, counted or not. NULL is allowed. */
void count_stop(struct count *count);

#endif
