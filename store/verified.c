/* SPDX-License-Identifier: BSD-2-Clause */
#include "verified.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <xxhash.h>

/* 512 KiB: the 4 GiB that were read last if extents have 128 KiB, 128 GiB if they have 4 MiB. */
#define SLOTS ((size_t)1 << 15)

/* No extent begins there: the places of verdicts. */
#define VERDICT_START UINT64_MAX

/*
 * Two threads may write to a slot at once, and a third read half of each. So a slot holds not its
 * extent's fingerprint, but that XOR the pieces: a mixture belongs to no extent. An update that is
 * lost costs a second look at a piece.
 */
struct slot {
    _Atomic uint64_t sealed; /* fingerprint XOR pieces */
    _Atomic uint64_t pieces; /* a bit each; 0 = the slot is free */
};

struct verified {
    struct slot slots[SLOTS];
};

struct verified *verified_new(void)
{
    return calloc(1, sizeof(struct verified));
}

void verified_free(struct verified *verified)
{
    free(verified);
}

/* Contents never change and their ids are never used again, so this names what was read. */
static uint64_t fingerprint(uint64_t content, uint64_t start)
{
    uint64_t key[2] = {content, start};
    return XXH3_64bits(key, sizeof(key));
}

uint64_t verified_pieces(const struct verified *verified, uint64_t content, uint64_t start)
{
    uint64_t mark = fingerprint(content, start);
    const struct slot *slot = &verified->slots[mark % SLOTS];
    uint64_t sealed = atomic_load_explicit(&slot->sealed, memory_order_relaxed);
    uint64_t pieces = atomic_load_explicit(&slot->pieces, memory_order_relaxed);
    return (sealed ^ pieces) == mark ? pieces : 0;
}

void verified_add(struct verified *verified, uint64_t content, uint64_t start, uint64_t pieces)
{
    uint64_t mark = fingerprint(content, start);
    struct slot *slot = &verified->slots[mark % SLOTS];
    pieces |= verified_pieces(verified, content, start);
    atomic_store_explicit(&slot->sealed, mark ^ pieces, memory_order_relaxed);
    atomic_store_explicit(&slot->pieces, pieces, memory_order_relaxed);
}

enum verdict verified_verdict(const struct verified *verified, uint64_t content)
{
    uint64_t both = verified_pieces(verified, content, VERDICT_START);
    return (both & VERDICT_DAMAGED) ? VERDICT_DAMAGED : (enum verdict)both;
}

void verified_judge(struct verified *verified, uint64_t content, enum verdict verdict)
{
    verified_add(verified, content, VERDICT_START, verdict);
}
