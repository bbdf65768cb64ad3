/* SPDX-License-Identifier: BSD-2-Clause */
/* ingest.h: bring the bytes of a host file into the store, in transactions of bounded size. */
#ifndef STORE_INGEST_H
#define STORE_INGEST_H

#include "extent.h"
#include "private.h"

/* Called after every few MiB with the bytes that are written so far; false: stop, with -EINTR. */
typedef bool ingest_fn(void *arg, uint64_t bytes);

/*
 * Write `payload` as a content of its own and return its id and hash. Until a record leads to it,
 * it is an orphan that a crash or ingest_abandon() removes. For payloads above store->inline_max.
 * `watch` may be NULL.
 */
int ingest_content(struct store *store, const struct payload *payload, ingest_fn *watch, void *arg,
                   uint64_t *content, uint8_t hash[16]);
void ingest_abandon(struct store *store, uint64_t content);

/* store_room_promised() for the next step of so many bytes. */
int ingest_room(struct store *store, uint64_t bytes);

/* In the change that makes a record lead to it: it is an orphan no more. */
int ingest_adopt(struct store *store, struct view *view, uint64_t content, uint64_t size,
                 const uint8_t hash[16]);

#endif
