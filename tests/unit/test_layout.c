/* SPDX-License-Identifier: BSD-2-Clause */
/* The limits that layout.h computes from the page size, held against LMDB itself. */
#include "support.h"

#include "store/layout.h"

static void limits_at_4096_are_the_documented_ones(void **state)
{
    (void)state;
    assert_int_equal(layout_inline_max(4096), 1926);
    assert_int_equal(layout_packed_max(4096), 4080);
    assert_int_equal(layout_own_page(4096), 2015);
}

static void buffers_hold_the_largest_inline_payload(void **state)
{
    (void)state;
    for (size_t page = 512; page <= 65536; page *= 2)
        assert_true(layout_inline_max(page) <= LAYOUT_INLINE_LIMIT);
}

/* Payloads that are too large to be inline are never too small for a page of their own once
 * padded, and padding never makes two pages of one. */
static void limits_follow_each_other(void **state)
{
    (void)state;
    for (size_t page = 4096; page <= 65536; page *= 2) {
        assert_true(layout_inline_max(page) < layout_own_page(page));
        assert_true(layout_own_page(page) <= layout_packed_max(page));
    }
}

/* ---------------------------------------------------------- against LMDB -- */

struct lmdb {
    char path[256];
    MDB_env *env;
    size_t page_size;
};

static struct lmdb open_with_pages(struct fixture *fixture, long page_size)
{
    struct lmdb lmdb;
    snprintf(lmdb.path, sizeof(lmdb.path), "%.200s/%ld", fixture->directory, page_size);
    assert_int_equal(mkdir(lmdb.path, 0700), 0);
    pretend_page_size(page_size);
    assert_int_equal(mdb_env_create(&lmdb.env), 0);
    assert_int_equal(mdb_env_set_mapsize(lmdb.env, 4 << 20), 0);
    assert_int_equal(mdb_env_open(lmdb.env, lmdb.path, MDB_NOSYNC, 0600), 0);
    pretend_page_size(0);
    MDB_stat stat;
    mdb_env_stat(lmdb.env, &stat);
    lmdb.page_size = stat.ms_psize;
    return lmdb;
}

/* The overflow pages that a value takes. With three of a kind, so that leaves have to hold
 * at least two of them beside each other. */
static size_t overflow_pages(MDB_env *env, size_t key_size, size_t value_size)
{
    MDB_txn *txn;
    MDB_dbi table;
    MDB_stat stat;
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &table), 0);
    for (uint64_t i = 0; i < 3; i++) {
        char key[16] = {0};
        key[key_size - 1] = (char)i;
        MDB_val k = {key_size, key}, v = {value_size, NULL};
        assert_int_equal(mdb_put(txn, table, &k, &v, MDB_RESERVE), 0);
        memset(v.mv_data, 0, value_size);
    }
    assert_int_equal(mdb_stat(txn, table, &stat), 0);
    mdb_txn_abort(txn);
    assert_int_equal(stat.ms_overflow_pages % 3, 0);
    return stat.ms_overflow_pages / 3;
}

static void lmdb_keeps_to_the_limits_at(struct fixture *fixture, long page_size)
{
    struct lmdb lmdb = open_with_pages(fixture, page_size);
    size_t page = (size_t)page_size;
    assert_int_equal(lmdb.page_size, page);

    size_t record = sizeof(struct layout_record) + layout_inline_max(page);
    assert_int_equal(overflow_pages(lmdb.env, sizeof(uint64_t), record), 0);
    assert_int_equal(overflow_pages(lmdb.env, sizeof(uint64_t), record + 1), 1);

    size_t key = sizeof(struct layout_extent_key);
    assert_int_equal(overflow_pages(lmdb.env, key, layout_own_page(page) - 1), 0);
    assert_int_equal(overflow_pages(lmdb.env, key, layout_own_page(page)), 1);
    assert_int_equal(overflow_pages(lmdb.env, key, layout_packed_max(page)), 1);
    assert_int_equal(overflow_pages(lmdb.env, key, layout_packed_max(page) + 1), 2);
    /* What is in front of an aligned payload fills its first page. */
    assert_int_equal(overflow_pages(lmdb.env, key, page - LAYOUT_PAGE_HEADER + 4 * page), 5);
    mdb_env_close(lmdb.env);
}

static void lmdb_keeps_to_the_limits_at_every_page_size(void **state)
{
    for (long page = 4096; page <= 32768; page *= 2)
        lmdb_keeps_to_the_limits_at(*state, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_at_4096_are_the_documented_ones),
        cmocka_unit_test(buffers_hold_the_largest_inline_payload),
        cmocka_unit_test(limits_follow_each_other),
        test_with_directory(lmdb_keeps_to_the_limits_at_every_page_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
