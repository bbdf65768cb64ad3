/* SPDX-License-Identifier: BSD-2-Clause */
/* What may be taken in all is divided without a rest that is too small, or a sum too large. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/memory.h"
#include "store/store.h"

#define MIB ((size_t)1 << 20)

/* Threads, the tables of LMDB and of what was verified, what malloc(3) holds back. */
#define REST (4 * MIB)

static void shares_fit(void **state)
{
    (void)state;
    for (size_t size = MEMORY_LEAST; size <= 4096 * MIB; size += size / 7 + 1) {
        struct memory_share share = memory_divide(size);
        size_t sum =
            share.transaction + share.pending + share.requests + share.answers + share.leases;
        assert_true(sum + REST <= size);
        assert_true(sum + REST + REST / 4 >= size);
        assert_true(share.transaction >= STORE_TRANSACTION_LEAST);
        assert_true(share.requests >= 2 * MIB && share.answers >= 2 * MIB);
        assert_true(share.leases > 0 && share.leases < size);
    }
}

static void usual_share_bounds_no_leases(void **state)
{
    (void)state;
    struct memory_share share = memory_divide(0);
    assert_int_equal(share.leases, 0);
    assert_true(share.transaction + share.pending + share.requests + share.answers + REST <=
                MEMORY_USUAL);
}

static void private_memory_is_told(void **state)
{
    (void)state;
    uint64_t before = memory_private();
    char *bytes = malloc(32 * MIB);
    memset(bytes, 1, 32 * MIB);
    assert_in_range(memory_private(), before + 31 * MIB, before + 40 * MIB);
    assert_int_equal(bytes[MIB], 1);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_fit),
        cmocka_unit_test(usual_share_bounds_no_leases),
        cmocka_unit_test(private_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
