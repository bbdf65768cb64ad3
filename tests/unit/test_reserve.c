/* SPDX-License-Identifier: BSD-2-Clause */
/* Room that is kept by taking it. */
#include "support.h"

#include "store/reserve.h"
#include "store/util.h"

#define MIB ((uint64_t)1 << 20)

static int begin(void **state)
{
    const char *place = getenv("TMPDIR");
    int *fd = malloc(sizeof(*fd));
    assert_non_null(fd);
    *fd = open(place != NULL ? place : "/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(*fd >= 0);
    *state = fd;
    return 0;
}

static int end(void **state)
{
    int *fd = *state;
    close(*fd);
    free(fd);
    return 0;
}

static void nothing_is_kept_before_it_begins(void **state)
{
    struct reserve *reserve = reserve_new(*(int *)*state);
    assert_false(reserve_begun(reserve));
    assert_int_equal(reserve_keep(reserve, MIB), 0);
    assert_int_equal(reserve_bytes(reserve), 0);
    assert_false(reserve_release(reserve));
    reserve_free(reserve);
}

static void more_and_less_is_kept(void **state)
{
    struct reserve *reserve = reserve_new(*(int *)*state);
    reserve_begin(reserve);
    assert_true(reserve_begun(reserve));
    const uint64_t sizes[] = {MIB, 8 * MIB, 3 * MIB, 0, 5 * MIB};
    for (size_t i = 0; i < array_length(sizes); i++) {
        assert_int_equal(reserve_keep(reserve, sizes[i]), 0);
        assert_int_equal(reserve_bytes(reserve), sizes[i]);
    }
    assert_true(reserve_release(reserve));
    assert_int_equal(reserve_bytes(reserve), 0);
    assert_false(reserve_release(reserve));
    reserve_free(reserve);
}

static void it_lets_go_only_what_is_missing(void **state)
{
    int fd = *(int *)*state;
    struct reserve *reserve = reserve_new(fd);
    reserve_begin(reserve);
    assert_int_equal(reserve_keep(reserve, 4 * MIB), 0);
    reserve_let(reserve, MIB);
    assert_int_equal(reserve_bytes(reserve), 4 * MIB);
    reserve_let(reserve, UINT64_MAX / 2);
    assert_int_equal(reserve_bytes(reserve), 0);
    reserve_free(reserve);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_kept_before_it_begins, begin, end),
        cmocka_unit_test_setup_teardown(more_and_less_is_kept, begin, end),
        cmocka_unit_test_setup_teardown(it_lets_go_only_what_is_missing, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
