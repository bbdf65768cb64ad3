/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel may hold millions of records, so this is the daemon's largest table, and a dense one:
 * id and count of nearly every record fit into 8 bytes. Ids are spread over shards. A shard is a
 * table with open addressing and linear probing; removal moves later slots back, so that there are
 * no tombstones and it can live for months. It grows and shrinks by about a quarter, and
 * one shard at a time, so that there is never much more memory than is filled.
 *
 * The few that don't fit (a huge count, or an id of the far future) are in a list beside it.
 */
#include "lease.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "private.h"

#define SHARDS_BITS 6
#define SHARDS ((size_t)1 << SHARDS_BITS)

/* A slot: id above, count below; 0 = free. */
#define COUNT_BITS 20
#define COUNT_MOST ((UINT64_C(1) << COUNT_BITS) - 1)
#define ID_MOST (UINT64_MAX >> COUNT_BITS)

/* How full a shard is, in 64ths: it is made larger above MOST and smaller below LEAST, and is GOOD
 * then. 8 bytes / (LEAST / 64) is what a record takes at most. */
#define FULL_MOST 56
#define FULL_GOOD 45
#define FULL_LEAST 35
#define FULL_LIMIT 60 /* where it can't be made larger */

/* Shards come from mmap(2) in whole pages: what is freed is given back. */
#define SLOTS_STEP ((size_t)512)

struct wide {
    uint64_t id, count;
};

struct shard {
    pthread_mutex_t lock; /* guards the rest */
    uint64_t *slots;
    size_t size, used;
    struct wide *wide;
    size_t wide_count;
};

struct leases {
    pthread_mutex_t growing; /* one shard at a time; taken inside a shard's lock */
    size_t limit;            /* bytes */
    atomic_size_t bytes;     /* what the tables take */
    struct shard shards[SHARDS];
};

/* ------------------------------------------------------------------ slots -- */

static uint64_t hash(uint64_t id)
{
    return id * UINT64_C(0x9E3779B97F4A7C15);
}

static struct shard *shard_of(struct leases *leases, uint64_t id)
{
    return &leases->shards[hash(id) >> (64 - SHARDS_BITS)];
}

static uint64_t slot_id(uint64_t slot)
{
    return slot >> COUNT_BITS;
}

/* The slot where the search for an id begins: the hash's next 32 bits as a fraction of the size. */
static size_t home(uint64_t id, size_t size)
{
    uint64_t fraction = (hash(id) << SHARDS_BITS) >> 32;
    return (size_t)(fraction * size >> 32);
}

static size_t behind(size_t i, size_t size)
{
    return i + 1 == size ? 0 : i + 1;
}

/* How far one has to go from `from` to `to`. */
static size_t distance(size_t from, size_t to, size_t size)
{
    return to >= from ? to - from : to + size - from;
}

/* The slot of `id`, or the free one where it belongs. There is always one. */
static uint64_t *find(uint64_t *slots, size_t size, uint64_t id)
{
    size_t i = home(id, size);
    while (slots[i] != 0 && slot_id(slots[i]) != id)
        i = behind(i, size);
    return &slots[i];
}

/* The slot of `id`; NULL if it has none. */
static uint64_t *find_held(const struct shard *shard, uint64_t id)
{
    if (shard->used == 0)
        return NULL;
    uint64_t *slot = find(shard->slots, shard->size, id);
    return *slot == 0 ? NULL : slot;
}

static uint64_t *map_slots(size_t size)
{
    void *slots = mmap(NULL, size * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return slots == MAP_FAILED ? NULL : slots;
}

static void unmap_slots(struct leases *leases, uint64_t *slots, size_t size)
{
    if (size == 0)
        return;
    munmap(slots, size * sizeof(uint64_t));
    atomic_fetch_sub(&leases->bytes, size * sizeof(uint64_t));
}

/* Make the table as large as is good for `used` slots, plus one. -ENOMEM: also the limit. */
static int resize(struct leases *leases, struct shard *shard)
{
    size_t size = (shard->used + 1) * 64 / FULL_GOOD / SLOTS_STEP * SLOTS_STEP + SLOTS_STEP;
    if (size == shard->size)
        return 0;
    with_mutex(&leases->growing);
    if (size > shard->size &&
        atomic_load(&leases->bytes) + (size - shard->size) * sizeof(uint64_t) > leases->limit)
        return -ENOMEM;
    uint64_t *slots = map_slots(size);
    if (slots == NULL)
        return -ENOMEM;
    atomic_fetch_add(&leases->bytes, size * sizeof(uint64_t));
    for (size_t i = 0; i < shard->size; i++)
        if (shard->slots[i] != 0)
            *find(slots, size, slot_id(shard->slots[i])) = shard->slots[i];
    unmap_slots(leases, shard->slots, shard->size);
    shard->slots = slots;
    shard->size = size;
    return 0;
}

static int add_slot(struct leases *leases, struct shard *shard, uint64_t id, uint64_t count)
{
    if ((shard->used + 1) * 64 > shard->size * FULL_MOST) {
        int r = resize(leases, shard);
        /* At the limit what is there is filled up, as far as searches stay short. */
        if (r < 0 && (shard->used + 1) * 64 > shard->size * FULL_LIMIT)
            return r;
    }
    *find(shard->slots, shard->size, id) = id << COUNT_BITS | count;
    shard->used++;
    return 0;
}

static void remove_slot(struct leases *leases, struct shard *shard, uint64_t *slot)
{
    size_t size = shard->size, hole = (size_t)(slot - shard->slots);
    for (size_t i = behind(hole, size); shard->slots[i] != 0; i = behind(i, size)) {
        size_t wanted = home(slot_id(shard->slots[i]), size);
        if (distance(wanted, i, size) < distance(hole, i, size))
            continue; /* its home lies behind the hole */
        shard->slots[hole] = shard->slots[i];
        hole = i;
    }
    shard->slots[hole] = 0;
    shard->used--;
    if (size > SLOTS_STEP && shard->used * 64 < size * FULL_LEAST)
        (void)resize(leases, shard); /* failing, it just stays large */
}

/* ------------------------------------------------------------- wide leases -- */

static struct wide *find_wide(const struct shard *shard, uint64_t id)
{
    for (size_t i = 0; i < shard->wide_count; i++)
        if (shard->wide[i].id == id)
            return &shard->wide[i];
    return NULL;
}

static int add_wide(struct shard *shard, uint64_t id, uint64_t count)
{
    struct wide *larger = reallocarray(shard->wide, shard->wide_count + 1, sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    shard->wide = larger;
    shard->wide[shard->wide_count++] = (struct wide){id, count};
    return 0;
}

static void remove_wide(struct shard *shard, struct wide *wide)
{
    *wide = shard->wide[--shard->wide_count];
    if (shard->wide_count == 0)
        free(steal_pointer(&shard->wide));
}

/* ------------------------------------------------------------------ leases -- */

struct leases *leases_new(size_t limit)
{
    struct leases *leases = calloc(1, sizeof(*leases));
    if (leases == NULL)
        return NULL;
    leases->limit = limit == 0 ? SIZE_MAX : limit;
    pthread_mutex_init(&leases->growing, NULL);
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&leases->shards[i].lock, NULL);
    return leases;
}

void leases_free(struct leases *leases)
{
    if (leases == NULL)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &leases->shards[i];
        unmap_slots(leases, shard->slots, shard->size);
        free(shard->wide);
        pthread_mutex_destroy(&shard->lock);
    }
    pthread_mutex_destroy(&leases->growing);
    free(leases);
}

int leases_add(struct leases *leases, uint64_t id, uint64_t count)
{
    struct shard *shard = shard_of(leases, id);
    with_mutex(&shard->lock);
    struct wide *wide = find_wide(shard, id);
    if (wide != NULL) {
        wide->count += count;
        return 0;
    }
    uint64_t *slot = find_held(shard, id);
    uint64_t held = slot == NULL ? 0 : *slot & COUNT_MOST;
    if (id > ID_MOST || count > COUNT_MOST - held) {
        int r = add_wide(shard, id, held + count);
        if (r == 0 && slot != NULL)
            remove_slot(leases, shard, slot);
        return r;
    }
    if (slot == NULL)
        return add_slot(leases, shard, id, count);
    *slot += count;
    return 0;
}

bool leases_drop(struct leases *leases, uint64_t id, uint64_t count)
{
    struct shard *shard = shard_of(leases, id);
    with_mutex(&shard->lock);
    struct wide *wide = find_wide(shard, id);
    if (wide != NULL && wide->count > count) {
        wide->count -= count;
        return false;
    }
    if (wide != NULL) {
        remove_wide(shard, wide);
        return true;
    }
    uint64_t *slot = id > ID_MOST ? NULL : find_held(shard, id);
    if (slot == NULL)
        return false;
    if ((*slot & COUNT_MOST) > count) {
        *slot -= count;
        return false;
    }
    remove_slot(leases, shard, slot);
    return true;
}

bool leases_held(struct leases *leases, uint64_t id)
{
    struct shard *shard = shard_of(leases, id);
    with_mutex(&shard->lock);
    return find_wide(shard, id) != NULL || (id <= ID_MOST && find_held(shard, id) != NULL);
}

size_t leases_count(struct leases *leases)
{
    size_t count = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        with_mutex(&leases->shards[i].lock);
        count += leases->shards[i].used + leases->shards[i].wide_count;
    }
    return count;
}

size_t leases_bytes(const struct leases *leases)
{
    return atomic_load(&leases->bytes);
}

bool leases_crowded(const struct leases *leases)
{
    return leases->limit != SIZE_MAX && leases_bytes(leases) > leases->limit / 8 * 7;
}

/* Slots of a shard from *slot on; *slot is where to go on, 0 at the end. */
static size_t list_shard(struct shard *shard, size_t *slot, uint64_t *ids, size_t most)
{
    with_mutex(&shard->lock);
    size_t count = 0, i = *slot;
    for (; i < shard->size && count < most; i++)
        if (shard->slots[i] != 0)
            ids[count++] = slot_id(shard->slots[i]);
    *slot = i < shard->size ? i : 0;
    return count;
}

size_t leases_list(struct leases *leases, uint64_t *position, uint64_t *ids, size_t most)
{
    size_t count = 0, shard = *position % SHARDS, slot = *position / SHARDS;
    for (size_t n = 0; n <= SHARDS && count < most; n++) {
        count += list_shard(&leases->shards[shard], &slot, ids + count, most - count);
        if (slot == 0)
            shard = (shard + 1) % SHARDS;
    }
    *position = slot * SHARDS + shard;
    return count;
}
