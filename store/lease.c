/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Open addressing with linear probing; removal moves later slots back, so that there are no
 * tombstones and the table can live for months.
 */
#include "lease.h"

#include "store.h"
#include "private.h"

#define SLOTS_LEAST ((size_t)1024)

struct slot {
    uint64_t id; /* 0 = free */
    uint64_t count;
};

struct leases {
    pthread_mutex_t lock; /* guards the rest */
    struct slot *slots;
    size_t size; /* a power of two */
    size_t used;
};

static size_t home(uint64_t id, size_t size)
{
    return (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (size - 1);
}

/* The slot of `id`, or the free one where it belongs. */
static struct slot *find(struct slot *slots, size_t size, uint64_t id)
{
    size_t i = home(id, size);
    while (slots[i].id != 0 && slots[i].id != id)
        i = (i + 1) & (size - 1);
    return &slots[i];
}

static int resize(struct leases *leases, size_t size)
{
    struct slot *slots = calloc(size, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < leases->size; i++)
        if (leases->slots[i].id != 0)
            *find(slots, size, leases->slots[i].id) = leases->slots[i];
    free(leases->slots);
    leases->slots = slots;
    leases->size = size;
    return 0;
}

struct leases *leases_new(void)
{
    struct leases *leases = calloc(1, sizeof(*leases));
    if (leases == NULL)
        return NULL;
    pthread_mutex_init(&leases->lock, NULL);
    if (resize(leases, SLOTS_LEAST) < 0) {
        free(leases);
        return NULL;
    }
    return leases;
}

void leases_free(struct leases *leases)
{
    if (leases == NULL)
        return;
    pthread_mutex_destroy(&leases->lock);
    free(leases->slots);
    free(leases);
}

int leases_add(struct leases *leases, uint64_t id, uint64_t count)
{
    with_mutex(&leases->lock);
    if ((leases->used + 1) * 8 > leases->size * 7) {
        int r = resize(leases, leases->size * 2);
        if (r < 0)
            return r;
    }
    struct slot *slot = find(leases->slots, leases->size, id);
    if (slot->id == 0) {
        slot->id = id;
        leases->used++;
    }
    slot->count += count;
    return 0;
}

static void release(struct leases *leases, struct slot *slot)
{
    size_t mask = leases->size - 1;
    size_t hole = (size_t)(slot - leases->slots);
    for (size_t i = (hole + 1) & mask; leases->slots[i].id != 0; i = (i + 1) & mask) {
        size_t wanted = home(leases->slots[i].id, leases->size);
        if (((i - wanted) & mask) < ((i - hole) & mask))
            continue; /* its home lies behind the hole */
        leases->slots[hole] = leases->slots[i];
        hole = i;
    }
    leases->slots[hole] = (struct slot){0};
    leases->used--;
    if (leases->size > SLOTS_LEAST && leases->used * 4 < leases->size)
        (void)resize(leases, leases->size / 2); /* failing, it just stays large */
}

bool leases_drop(struct leases *leases, uint64_t id, uint64_t count)
{
    with_mutex(&leases->lock);
    struct slot *slot = find(leases->slots, leases->size, id);
    if (slot->id == 0)
        return false;
    if (slot->count > count) {
        slot->count -= count;
        return false;
    }
    release(leases, slot);
    return true;
}

bool leases_held(struct leases *leases, uint64_t id)
{
    with_mutex(&leases->lock);
    return find(leases->slots, leases->size, id)->id != 0;
}

size_t leases_count(struct leases *leases)
{
    with_mutex(&leases->lock);
    return leases->used;
}
