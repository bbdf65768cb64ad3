/* SPDX-License-Identifier: BSD-2-Clause */
/* record.h: table "records": attributes and inline payload by id. All calls take part in the
 * caller's transaction. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "private.h"

/*
 * Flags that a record has only as long as it is pending (pending.h), beside those of layout.h.
 *
 * final    the file is sealed, but its bytes are still in the staging area, in `size`, and its hash
 *          isn't known: place is LAYOUT_STAGED
 * arrived  an unsealed file that was renamed or linked: its bytes are made durable before its name
 * hosted   the bytes were sealed into the record, but a host file has them too, until the commit
 */
#define RECORD_FINAL 0x80
#define RECORD_ARRIVED 0x40
#define RECORD_HOSTED 0x20
#define RECORD_PENDING (RECORD_FINAL | RECORD_ARRIVED | RECORD_HOSTED)

/* Its bytes can change: they, and what else staging_attr() knows, are in the staging area. */
static inline bool record_is_open(const struct layout_record *record)
{
    return record->place == LAYOUT_STAGED && (record->flags & RECORD_FINAL) == 0;
}

/* `payload` may be NULL; else it is set to the inline payload, valid as long as the
 * transaction and until its next change. -EIO if the record makes no sense. */
int record_get(struct store *store, struct view *view, uint64_t id, struct layout_record *record,
               MDB_val *payload);

/* The record as it is visible now: for who has no view open. */
int record_look(struct store *store, uint64_t id, struct layout_record *record);

/* The first record from id `from` on. -ENOENT behind the last one; -EIO if it makes no sense (*id
 * is set). */
int record_next(struct store *store, struct view *view, uint64_t from, uint64_t *id,
                struct layout_record *record);

/* Write a new record. `payload`: record->size bytes if it is LAYOUT_INLINE and no directory. */
int record_add(struct store *store, struct view *view, uint64_t id,
               const struct layout_record *record, const void *payload);
/* Replace record and payload. */
int record_replace(struct store *store, struct view *view, uint64_t id,
                   const struct layout_record *record, const void *payload);
/* Replace the record, keep its inline payload. */
int record_update(struct store *store, struct view *view, uint64_t id,
                  const struct layout_record *record);
int record_remove(struct store *store, struct view *view, uint64_t id);

struct layout_time layout_time(struct timespec time);
struct timespec layout_timespec(struct layout_time time);
/* The time of day, for ctime and its friends. */
struct layout_time layout_now(void);

/* What stat(2) would say, without what only the staging file knows. */
void record_attr(const struct store *store, uint64_t id, const struct layout_record *record,
                 struct store_attr *attr);

#endif
