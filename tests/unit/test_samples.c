/* SPDX-License-Identifier: BSD-2-Clause */
/* Metrics as text: what ways.c and metrics.c write is read again, and nothing else passes for it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/metrics.h"
#include "fs/samples.h"
#include "fs/ways.h"

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const char why[] = "a \"quote\", a back\\slash, \\n is none and\none line";
    struct ways ways;
    struct samples samples;
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    ways_init(&ways);
    ways_set(&ways, WAY_open, "asked", "%s", why);
    ways_print(out, &ways);
    metrics_print(out, "some_total", "counter", "Some words, and {more}.", UINT64_C(1) << 53);
    metrics_print(out, "another", "gauge", "Other words.", 0);
    fclose(out);
    ways_destroy(&ways);

    assert_int_equal(samples_parse(text, &samples), 0);
    assert_int_equal(samples.count, 3);
    const struct sample *way = samples_find(&samples, "lmdbfs_way_info");
    assert_non_null(way);
    assert_int_equal(way->value, 1);
    assert_string_equal(sample_label(way, "of"), "open");
    assert_string_equal(sample_label(way, "way"), "asked");
    assert_string_equal(sample_label(way, "why"), why);
    assert_string_equal(sample_label(way, "none"), "");
    assert_int_equal(samples_value(&samples, "some_total"), UINT64_C(1) << 53);
    assert_string_equal(samples_find(&samples, "some_total")->help, "Some words, and {more}.");
    assert_string_equal(samples_find(&samples, "another")->help, "Other words.");
    assert_null(samples_find(&samples, "some"));
    assert_int_equal(samples_value(&samples, "some"), 0);
    samples_free(&samples);
}

static void other_text_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "x",
        "x ",
        "x y",
        " 1",
        "x 1 2",
        "x -1",
        "x nan",
        "x inf",
        "x{} 1",
        "x{a=\"b\" 1",
        "x{a=\"b} 1",
        "x{a=b} 1",
        "x{=\"\"} 1",
        "x{a=\"b\"}1",
        "x{a=\"\\",
        "good 1\nx{",
        "x{a=\"b\",} 1",
        "x{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\"} 1",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct samples samples;
        if (samples_parse(strdup(texts[i]), &samples) != -EBADMSG)
            fail_msg("accepted: %s", texts[i]);
    }
}

static void empty_text_has_no_samples(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", "# HELP x\n# TYPE\n#"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct samples samples;
        assert_int_equal(samples_parse(strdup(texts[i]), &samples), 0);
        assert_int_equal(samples.count, 0);
        samples_free(&samples);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(other_text_is_refused),
        cmocka_unit_test(empty_text_has_no_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
