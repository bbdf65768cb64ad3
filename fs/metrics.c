/* SPDX-License-Identifier: BSD-2-Clause */
#include "metrics.h"

#include <inttypes.h>

static const char *const op_names[] = {
#define METRICS_NAME(op) #op,
    METRICS_OPS(METRICS_NAME)
#undef METRICS_NAME
};

static void print_header(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_print(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    print_header(out, name, type, help);
    fprintf(out, "%s %" PRIu64 "\n", name, value);
}

/* Prometheus wants these three escaped. */
void metrics_print_label(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=\"", name);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            putc('\\', out);
        if (*value == '\n')
            fputs("\\n", out);
        else
            putc(*value, out);
    }
    putc('"', out);
}

void metrics_print_info(FILE *out, const char *name, const char *help, const char *label,
                        const char *value)
{
    print_header(out, name, "gauge", help);
    fprintf(out, "%s{", name);
    metrics_print_label(out, label, value);
    fputs("} 1\n", out);
}

void metrics_print_all(FILE *out, struct metrics *metrics)
{
    print_header(out, "lmdbfs_requests_total", "counter",
                 "Requests of the kernel that reached this mount's daemon.");
    for (int op = 0; op < METRICS_OP_COUNT; op++)
        fprintf(out, "lmdbfs_requests_total{op=\"%s\"} %" PRIuFAST64 "\n", op_names[op],
                atomic_load_explicit(&metrics->requests[op], memory_order_relaxed));
    metrics_print(out, "lmdbfs_read_bytes_total", "counter", "Content sent to the kernel.",
                  atomic_load(&metrics->read_bytes));
    metrics_print(out, "lmdbfs_written_bytes_total", "counter", "Content taken from the kernel.",
                  atomic_load(&metrics->written_bytes));
    metrics_print(out, "lmdbfs_forgotten_lookups_total", "counter",
                  "Answered lookups that the kernel has given back.",
                  atomic_load(&metrics->forgets));
}
