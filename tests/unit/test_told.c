/* SPDX-License-Identifier: BSD-2-Clause */
/* Names in the order in which they were told last. */
#include "support.h"

#include "fs/inbox_told.h"

static void assert_next(struct told *told, const char *name, int held)
{
    int found = -1;
    char *next = told_next(told, &found);
    assert_non_null(next);
    assert_string_equal(next, name);
    assert_int_equal(found, held);
    free(next);
}

static void assert_none(struct told *told)
{
    int held;
    assert_null(told_next(told, &held));
    assert_int_equal(told_count(told), 0);
}

static void last_word_counts(void **state)
{
    (void)state;
    struct told *told = told_new();
    for (const char *name = "abcabd"; *name != '\0'; name++)
        assert_int_equal(told_add(told, (const char[]){*name, '\0'}), 0);
    assert_int_equal(told_count(told), 4);
    assert_true(told_has(told, "a"));
    told_hold(told, "a", 7);
    told_hold(told, "x", 8);
    assert_next(told, "c", 0);
    assert_int_equal(told_add(told, "a"), 0);
    assert_next(told, "b", 0);
    assert_next(told, "d", 0);
    assert_next(told, "a", 7);
    assert_false(told_has(told, "a"));
    assert_none(told);
    assert_int_equal(told_add(told, "a"), 0);
    told_hold(told, "a", 7);
    told_let_go(told);
    assert_next(told, "a", 0);
    told_free(told);
}

static void many_names(void **state)
{
    (void)state;
    struct told *told = told_new();
    char name[20];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 20000; i++) {
            snprintf(name, sizeof(name), "%d", i);
            assert_int_equal(told_add(told, name), 0);
        }
    for (int i = 0; i < 19000; i++) {
        snprintf(name, sizeof(name), "%d", i);
        assert_next(told, name, 0);
    }
    assert_int_equal(told_count(told), 1000);
    told_free(told); /* with all that is left */
    told_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_word_counts),
        cmocka_unit_test(many_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
