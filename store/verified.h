/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verified.h: what was read and found to be what it was, since the store was opened: the pieces of
 * extents, and contents as a whole. Of fixed size: what was pushed out is verified again. Without
 * locks; any thread may call.
 */
#ifndef STORE_VERIFIED_H
#define STORE_VERIFIED_H

#include <stdint.h>

struct verified;

struct verified *verified_new(void); /* NULL: no memory */
void verified_free(struct verified *verified);

/* Which of the up to 64 pieces of the extent of `content` at `start` were found sound: a bit each.
 */
uint64_t verified_pieces(const struct verified *verified, uint64_t content, uint64_t start);
void verified_add(struct verified *verified, uint64_t content, uint64_t start, uint64_t pieces);

/* What is known of a content as a whole. */
enum verdict { VERDICT_NONE, VERDICT_SOUND, VERDICT_DAMAGED };
enum verdict verified_verdict(const struct verified *verified, uint64_t content);
void verified_judge(struct verified *verified, uint64_t content, enum verdict verdict);

#endif
