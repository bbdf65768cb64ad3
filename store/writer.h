/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * writer.h: the one thread that changes the store, and its group commit.
 *
 * Changes are functions that run inside a write transaction. Whatever waits when the
 * thread is free goes into one transaction and one synchronous commit, so that many callers
 * share the price of one.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include <lmdb.h>
#include <stddef.h>
#include <stdint.h>

#include "view.h"

struct writer;

/*
 * A change. Runs in the writer's thread and may run more than once (when the map had to grow,
 * or when another change of the same transaction failed): it must start from the transaction
 * alone, set all its results anew, and have no effect outside that can't be repeated.
 * Returns 0, or a negative errno: then nothing of it stays.
 */
typedef int writer_fn(struct view *view, void *arg);

/* `most`: bytes that changes of one transaction may write together, up to WRITER_BYTES_MAX. `end`
 * is a change at the end of each transaction; NULL: none. */
int writer_start(struct env *env, size_t most, writer_fn *end, void *arg, struct writer **out);
/* Waits for what is queued. NULL is allowed. */
void writer_stop(struct writer *writer);

/*
 * Run a change and wait until it is durable. `bytes` is about how much it writes: it bounds
 * what is put into one transaction (LMDB holds that in memory). Any thread but the writer's.
 */
int writer_run(struct writer *writer, writer_fn *change, void *arg, size_t bytes);

/* Transactions committed since writer_start(). */
uint64_t writer_commits(const struct writer *writer);

/* The most that one change may write, bytes, unless less was asked for. Larger work is cut into
 * several. */
#define WRITER_BYTES_MAX ((size_t)8 << 20)

#endif
