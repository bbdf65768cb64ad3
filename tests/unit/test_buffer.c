/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers for answers: many threads share few bytes, and nobody is forgotten. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/buffer.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void small_ones_are_the_threads_own(void **state)
{
    (void)state;
    char *first = buffer_get(1), *second = buffer_get(64 * KIB);
    assert_non_null(first);
    assert_ptr_equal(first, second);
    memset(second, 1, 64 * KIB);
    assert_int_equal(buffer_bytes(), 0);
}

static void large_ones_are_used_again(void **state)
{
    (void)state;
    buffer_limit(2 * MIB);
    char *first = buffer_get(MIB);
    memset(first, 1, MIB);
    assert_int_equal(buffer_bytes(), MIB);
    buffer_done();
    buffer_done();
    assert_ptr_equal(buffer_get(MIB - 1), first);
    assert_ptr_equal(buffer_get(MIB), first); /* asking again gives the first one back */
    assert_int_equal(buffer_bytes(), MIB);
    buffer_done();
}

/* More than the limit is for one at a time. */
static void one_may_always_be_had(void **state)
{
    (void)state;
    buffer_limit(128 * KIB);
    for (int i = 0; i < 3; i++) {
        memset(buffer_get(4 * MIB), 1, 4 * MIB);
        assert_int_equal(buffer_bytes(), 4 * MIB);
        buffer_done();
        assert_int_equal(buffer_bytes(), 0);
        memset(buffer_get(100 * KIB), 1, 100 * KIB);
        buffer_done();
    }
}

static atomic_bool exceeded, spoilt;

static void *take_and_give(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < 2000; i++) {
        size_t size = (size_t)(rand_r(&seed) % 1024 + 1) * KIB;
        char *buffer = buffer_get(size);
        buffer[0] = buffer[size - 1] = (char)seed;
        if (buffer_bytes() > 2 * MIB)
            atomic_store(&exceeded, true);
        if (buffer[0] != (char)seed || buffer[size - 1] != (char)seed)
            atomic_store(&spoilt, true);
        if (i % 2 == 0)
            buffer_done();
    }
    return NULL; /* what it has still goes back */
}

static void threads_share_what_there_is(void **state)
{
    (void)state;
    memset(buffer_get(128 * KIB), 1, 1);
    buffer_done();
    buffer_limit(2 * MIB);
    pthread_t threads[16];
    for (uintptr_t i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, (void *)i), 0);
    for (int i = 0; i < 16; i++)
        pthread_join(threads[i], NULL);
    assert_false(atomic_load(&exceeded));
    assert_false(atomic_load(&spoilt));
    assert_non_null(buffer_get(2 * MIB)); /* all of it is free again */
    assert_int_equal(buffer_bytes(), 2 * MIB);
    buffer_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_are_the_threads_own),
        cmocka_unit_test(large_ones_are_used_again),
        cmocka_unit_test(one_may_always_be_had),
        cmocka_unit_test(threads_share_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
