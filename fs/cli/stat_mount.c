/* SPDX-License-Identifier: BSD-2-Clause */
#include "stat_mount.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "fs/samples.h"
#include "fs/ways.h"
#include "store/store.h"
#include "store/util.h"
#include "units.h"

/* What a way is shown as. */
static const struct {
    const char *of, *text;
} ways[] = {
#define STAT_WAY(of, text) {#of, text},
    WAYS(STAT_WAY)
#undef STAT_WAY
};

static const char *way_text(const char *of)
{
    for (size_t i = 0; i < array_length(ways); i++)
        if (strcmp(ways[i].of, of) == 0)
            return ways[i].text;
    return of; /* of a newer daemon */
}

static bool is_called(const struct sample *sample, const char *name)
{
    return strcmp(sample->name, name) == 0;
}

static void print_ways(const struct samples *samples)
{
    printf("\nways\n");
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->list[i];
        if (!is_called(sample, "lmdbfs_way_info"))
            continue;
        const char *why = sample_label(sample, "why");
        printf("  %s: %s%s%s%s\n", way_text(sample_label(sample, "of")),
               sample_label(sample, "way"), why[0] == '\0' ? "" : " (", why,
               why[0] == '\0' ? "" : ")");
    }
}

static void print_line(const char *what, uint64_t count, const char *more)
{
    printf("  %-18s %12" PRIu64 "%s%s\n", what, count, more[0] == '\0' ? "" : "   ", more);
}

/* By kind; those that never came are left out. */
static void print_requests(const struct samples *samples)
{
    uint64_t all = 0;
    for (size_t i = 0; i < samples->count; i++)
        if (is_called(&samples->list[i], "lmdbfs_requests_total"))
            all += samples->list[i].value;
    printf("\nrequests of the kernel\n");
    print_line("all", all, "since it was mounted");
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->list[i];
        if (is_called(sample, "lmdbfs_requests_total") && sample->value > 0)
            print_line(sample_label(sample, "op"), sample->value, "");
    }
    printf("  %-18s %12s\n", "content read",
           units_bytes(samples_value(samples, "lmdbfs_read_bytes_total")).text);
    printf("  %-18s %12s\n", "content written",
           units_bytes(samples_value(samples, "lmdbfs_written_bytes_total")).text);
}

static void print_memory(const struct samples *samples)
{
    uint64_t limit = samples_value(samples, "lmdbfs_memory_limit_bytes");
    char more[80];
    printf("\nmemory of the daemon\n");
    printf("  %-18s %12s%s%s\n", "in use",
           units_bytes(samples_value(samples, "lmdbfs_memory_bytes")).text,
           limit == 0 ? "" : "   of at most ", limit == 0 ? "" : units_bytes(limit).text);
    snprintf(more, sizeof(more), "files that the kernel holds, in %s",
             units_bytes(samples_value(samples, "lmdbfs_lease_bytes")).text);
    print_line("leases", samples_value(samples, "lmdbfs_leases"), more);
}

static void print_content(const struct samples *samples)
{
    char more[80];
    printf("\ncontent of the store\n");
    print_line("records", samples_value(samples, "lmdbfs_store_records"), "");
    print_line("orphans", samples_value(samples, "lmdbfs_store_orphans"),
               "removed when nobody has them open any more");
    snprintf(more, sizeof(more), "pieces compared with their checksum, %s",
             units_bytes(samples_value(samples, "lmdbfs_store_verified_bytes_total")).text);
    print_line("verified", samples_value(samples, "lmdbfs_store_verified_total"), more);
    uint64_t damages = samples_value(samples, "lmdbfs_store_damages_total");
    print_line("damaged", damages, damages > 0 ? "the log names them; see lmdbfs check" : "");
}

static void print_inbox(const struct samples *samples)
{
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->list[i];
        if (!is_called(sample, "lmdbfs_inbox_info"))
            continue;
        printf("\ninbox ");
        units_print_path(stdout, sample_label(sample, "directory"));
        putchar('\n');
        print_line("published", samples_value(samples, "lmdbfs_inbox_published_total"), "");
        print_line("rejected", samples_value(samples, "lmdbfs_inbox_rejected_total"),
                   "in .rejected, each with its reason");
        print_line("waiting", samples_value(samples, "lmdbfs_inbox_waiting"), "");
    }
}

/* Whatever a mount tells about clones, in its own words. */
static void print_clones(const struct samples *samples)
{
    bool any = false;
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->list[i];
        if (strncmp(sample->name, "lmdbfs_clone", strlen("lmdbfs_clone")) != 0)
            continue;
        if (!any)
            printf("\nclones of large records\n");
        any = true;
        print_line(sample->name + strlen("lmdbfs_"), sample->value, sample->help);
    }
}

int stat_mount(const char *point, const char *source)
{
    struct samples samples;
    cleanup_free char *path = NULL;
    if (asprintf(&path, "%s/%s/%s", point, STORE_CONTROL_NAME, STORE_STATS_NAME) < 0)
        return cli_failure("stat", "out of memory");
    int r = samples_read(path, &samples);
    if (r == -ENOTCONN || r == -ECONNABORTED)
        return cli_failure("stat", "%s: the daemon of this mount has ended; umount -l %s", point,
                           point);
    if (r < 0)
        return cli_failure("stat", "%s: %s", path,
                           r == -EBADMSG ? "not the figures of a mount" : strerror(-r));
    units_print_path(stdout, point);
    printf(": mount of ");
    units_print_path(stdout, source);
    putchar('\n');
    print_ways(&samples);
    print_requests(&samples);
    print_memory(&samples);
    print_content(&samples);
    print_clones(&samples);
    print_inbox(&samples);
    samples_free(&samples);
    return CLI_OK;
}
