/* SPDX-License-Identifier: BSD-2-Clause */
/* Leases, held against a plain array of counts. */
#include "support.h"

#include "store/lease.h"

#define IDS 6000

static uint64_t spread(uint64_t i)
{
    return i * 7919 + 64;
}

static void last_drop_is_told(void **state)
{
    (void)state;
    struct leases *leases = leases_new(0);
    assert_false(leases_held(leases, 70));
    assert_int_equal(leases_add(leases, 70, 1), 0);
    assert_int_equal(leases_add(leases, 70, 2), 0);
    assert_true(leases_held(leases, 70));
    assert_int_equal(leases_count(leases), 1);
    assert_false(leases_drop(leases, 70, 2));
    assert_true(leases_held(leases, 70));
    assert_true(leases_drop(leases, 70, 1));
    assert_false(leases_held(leases, 70));
    assert_int_equal(leases_count(leases), 0);
    leases_free(leases);
}

static void dropping_what_is_not_held_is_harmless(void **state)
{
    (void)state;
    struct leases *leases = leases_new(0);
    assert_false(leases_drop(leases, 99, 1));
    assert_int_equal(leases_add(leases, 99, 3), 0);
    assert_true(leases_drop(leases, 99, 1000));
    assert_false(leases_drop(leases, 99, 1));
    assert_int_equal(leases_count(leases), 0);
    leases_free(leases);
    leases_free(NULL);
}

static void check_all(struct leases *leases, const uint64_t *model)
{
    size_t held = 0;
    for (uint64_t i = 0; i < IDS; i++) {
        held += model[i] > 0;
        assert_int_equal(leases_held(leases, spread(i)), model[i] > 0);
    }
    assert_int_equal(leases_count(leases), held);
}

/* Filling up and emptying in turns, so that the table grows, moves slots and shrinks. */
static void random_use_agrees_with_a_model(void **state)
{
    (void)state;
    struct random random = random_new(1);
    struct leases *leases = leases_new(0);
    uint64_t *model = calloc(IDS, sizeof(*model));
    for (unsigned round = 0; round < scaled(20, 4); round++) {
        uint64_t adding = round % 2 == 0 ? 9 : 1; /* of 10 */
        for (unsigned n = 0; n < 20000; n++) {
            uint64_t i = random_below(&random, IDS), count = 1 + random_below(&random, 3);
            if (random_below(&random, 10) < adding) {
                assert_int_equal(leases_add(leases, spread(i), count), 0);
                model[i] += count;
            } else {
                bool last = model[i] > 0 && model[i] <= count;
                assert_int_equal(leases_drop(leases, spread(i), count), last);
                model[i] = model[i] > count ? model[i] - count : 0;
            }
        }
        check_all(leases, model);
    }
    for (uint64_t i = 0; i < IDS; i++)
        assert_int_equal(leases_drop(leases, spread(i), UINT64_MAX), model[i] > 0);
    assert_int_equal(leases_count(leases), 0);
    free(model);
    leases_free(leases);
}

/* Consecutive ids are the usual case, and the worst one of a bad hash. */
static void consecutive_ids_grow_and_shrink(void **state)
{
    (void)state;
    struct leases *leases = leases_new(0);
    for (uint64_t id = 64; id < 200000; id++)
        assert_int_equal(leases_add(leases, id, 1), 0);
    assert_int_equal(leases_count(leases), 200000 - 64);
    for (uint64_t id = 64; id < 200000; id++) {
        assert_true(leases_drop(leases, id, 1));
        if (id % 1000 == 0) {
            assert_false(leases_held(leases, id));
            assert_true(leases_held(leases, id + 1));
        }
    }
    assert_int_equal(leases_count(leases), 0);
    leases_free(leases);
}

/* Also while a part of the table is replaced by a larger or a smaller one: then there are two of
 * one of the 64. */
static void assert_dense(struct leases *leases, size_t held)
{
    size_t bytes = leases_bytes(leases), most = held * 16 + LEASES_BASE;
    if (bytes + bytes / 32 > most)
        fail_msg("%zu bytes for %zu records: more than %zu", bytes, held, most);
}

static void table_is_dense_at_every_size(void **state)
{
    (void)state;
    const uint64_t most = scaled(3000000, 300000);
    struct leases *leases = leases_new(0);
    for (uint64_t n = 0; n < most; n++) {
        assert_int_equal(leases_add(leases, spread(n), 1 + n % 3), 0);
        assert_dense(leases, n + 1);
    }
    assert_true(leases_bytes(leases) >= most * 8);
    for (uint64_t n = 0; n < most; n++) {
        assert_true(leases_drop(leases, spread(n), 3));
        assert_dense(leases, most - n - 1);
    }
    assert_true(leases_bytes(leases) <= LEASES_BASE);
    leases_free(leases);
}

/* What does not fit into the common form of a slot. */
static void large_counts_and_ids(void **state)
{
    (void)state;
    const uint64_t ids[] = {64, (UINT64_C(1) << 44) - 1, UINT64_C(1) << 44, UINT64_MAX};
    const uint64_t counts[] = {(1 << 20) - 1, 1 << 20, UINT64_C(1) << 40};
    struct leases *leases = leases_new(0);
    for (size_t i = 0; i < array_length(counts); i++) {
        uint64_t count = counts[i];
        for (size_t j = 0; j < array_length(ids); j++) {
            assert_int_equal(leases_add(leases, ids[j], count - 1), 0);
            assert_int_equal(leases_add(leases, ids[j], 2), 0);
            assert_int_equal(leases_count(leases), j + 1);
            assert_false(leases_drop(leases, ids[j], count));
            assert_true(leases_held(leases, ids[j]));
            assert_int_equal(leases_add(leases, ids[j], count), 0);
        }
        for (size_t j = 0; j < array_length(ids); j++) {
            assert_false(leases_drop(leases, ids[j], count));
            assert_true(leases_drop(leases, ids[j], 1));
            assert_false(leases_held(leases, ids[j]));
        }
        assert_int_equal(leases_count(leases), 0);
    }
    leases_free(leases);
}

static void limit_is_kept(void **state)
{
    (void)state;
    const size_t limit = (size_t)2 << 20;
    struct leases *leases = leases_new(limit);
    uint64_t refused = 0, most = limit / 4;
    for (uint64_t id = 1; id <= most; id++) {
        int r = leases_add(leases, id, 1);
        assert_true(r == 0 || r == -ENOMEM);
        assert_int_equal(leases_held(leases, id), r == 0);
        refused += r != 0;
        assert_true(leases_bytes(leases) <= limit);
    }
    assert_true(leases_crowded(leases));
    size_t held = leases_count(leases);
    assert_int_equal(held, most - refused);
    assert_true(held >= limit / 8 * 3 / 4); /* it was used */
    for (uint64_t id = 1; id <= most; id++) /* those that are held can be held more often */
        assert_int_equal(leases_add(leases, id, 1) == 0, leases_held(leases, id));
    for (uint64_t id = 1; id <= most; id++)
        (void)leases_drop(leases, id, UINT64_MAX);
    assert_int_equal(leases_count(leases), 0);
    assert_int_equal(leases_add(leases, most, 1), 0);
    assert_false(leases_crowded(leases));
    leases_free(leases);
}

/* Every id comes once a round, in pieces of any size. */
static void all_are_listed(void **state)
{
    (void)state;
    const size_t pieces[] = {1, 7, 512, 100000};
    struct leases *leases = leases_new(0);
    uint64_t position = 0, ids[10];
    assert_int_equal(leases_list(leases, &position, ids, 10), 0);
    for (uint64_t i = 0; i < IDS; i++)
        assert_int_equal(leases_add(leases, spread(i), 1 + i % 3), 0);
    for (size_t p = 0; p < array_length(pieces); p++) {
        size_t most = pieces[p] < IDS ? pieces[p] : IDS;
        uint64_t *found = calloc(IDS + most, sizeof(*found));
        size_t count = 0;
        position = 0;
        while (count < IDS) {
            size_t some = leases_list(leases, &position, found + count, most);
            assert_in_range(some, 1, most);
            count += some;
        }
        bool *seen = calloc(IDS, sizeof(*seen));
        for (size_t i = 0; i < IDS; i++) {
            uint64_t index = (found[i] - spread(0)) / 7919;
            assert_int_equal(found[i], spread(index));
            assert_false(seen[index]);
            seen[index] = true;
        }
        free(seen);
        free(found);
    }
    leases_free(leases);
}

struct shared {
    struct leases *leases;
    unsigned rounds;
};

static void *add_and_drop(void *arg)
{
    struct shared *shared = arg;
    for (unsigned i = 0; i < shared->rounds; i++) {
        must(leases_add(shared->leases, i % 5000 + 1, 2) == 0);
        (void)leases_drop(shared->leases, i % 5000 + 1, 1);
        must(leases_held(shared->leases, i % 5000 + 1));
        (void)leases_drop(shared->leases, i % 5000 + 1, 1);
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    (void)state;
    struct shared shared = {leases_new(0), scaled(100000, 10000)};
    pthread_t threads[4];
    for (size_t i = 0; i < array_length(threads); i++)
        must(pthread_create(&threads[i], NULL, add_and_drop, &shared) == 0);
    for (size_t i = 0; i < array_length(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(leases_count(shared.leases), 0);
    leases_free(shared.leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_drop_is_told),
        cmocka_unit_test(dropping_what_is_not_held_is_harmless),
        cmocka_unit_test(random_use_agrees_with_a_model),
        cmocka_unit_test(consecutive_ids_grow_and_shrink),
        cmocka_unit_test(table_is_dense_at_every_size),
        cmocka_unit_test(large_counts_and_ids),
        cmocka_unit_test(limit_is_kept),
        cmocka_unit_test(all_are_listed),
        cmocka_unit_test(threads_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
