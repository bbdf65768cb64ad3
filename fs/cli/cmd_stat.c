/* SPDX-License-Identifier: BSD-2-Clause */
#include "beside.h"
#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "fs/mountpoint.h"
#include "stat_mount.h"
#include "store/store.h"
#include "store/util.h"
#include "units.h"

struct arguments {
    const char *store;
    bool json;
};

static void print_help(void)
{
    printf(
        "usage: lmdbfs stat [--json] STORE\n"
        "       lmdbfs stat MOUNTPOINT\n"
        "\n"
        "Tells what STORE holds and what it takes; or of a mount, which ways it goes and why not\n"
        "others, what it was asked for, and the memory of its daemon.\n"
        "\n"
        "  --json   one JSON object:\n"
        "             format          format version\n"
        "             features        three bit masks: compatible, read-only compatible,\n"
        "                             incompatible\n"
        "             in_use          true if somebody has it open for writing\n"
        "             records         of every kind: files + directories + symlinks\n"
        "             files           regular files = inline_files + extent_files +\n"
        "                             unsealed_files\n"
        "             directories     the root and the staging directory included\n"
        "             symlinks\n"
        "             bytes           content of the regular files\n"
        "             inline_files    files whose content lies in their record\n"
        "             extent_files    files whose content lies in extents\n"
        "             unsealed_files  files that are still being written\n"
        "             extents\n"
        "             orphans         to be removed when nobody has them open any more\n"
        "             page_size       bytes\n"
        "             file_bytes      size of data.mdb\n"
        "             total_pages     pages of data.mdb\n"
        "             free_pages      those of them that will be used again\n"
        "             disk_total      bytes of the filesystem that the store is on\n"
        "             disk_free       free ones of them\n"
        "             disk_available  free ones for users who are not root\n"
        "\n"
        "Works while the store is mounted.\n"
        "\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage.\n"
        "\n"
        "Example: lmdbfs stat --json /var/lib/cache.lmdbfs | jq .bytes\n");
}

static void print_json(const struct store_stat *stat, bool in_use)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"records", stat->records},
        {"files", stat->files},
        {"directories", stat->directories},
        {"symlinks", stat->symlinks},
        {"bytes", stat->bytes},
        {"inline_files", stat->inline_files},
        {"extent_files", stat->extent_files},
        {"unsealed_files", stat->unsealed_files},
        {"extents", stat->extents},
        {"orphans", stat->orphans},
        {"page_size", stat->page_size},
        {"file_bytes", stat->file_bytes},
        {"total_pages", stat->total_pages},
        {"free_pages", stat->free_pages},
        {"disk_total", stat->disk_total},
        {"disk_free", stat->disk_free},
        {"disk_available", stat->disk_available},
    };
    printf("{\n  \"format\": %u,\n", stat->format);
    printf("  \"features\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "],\n", stat->features[0],
           stat->features[1], stat->features[2]);
    printf("  \"in_use\": %s", in_use ? "true" : "false");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        printf(",\n  \"%s\": %" PRIu64, numbers[i].key, numbers[i].value);
    printf("\n}\n");
}

static void print_line(const char *what, uint64_t count, const char *more)
{
    printf("  %-18s %12" PRIu64 "%s%s\n", what, count, more[0] == '\0' ? "" : "   ", more);
}

static void print_table(const char *path, const struct store_stat *stat, const char *user)
{
    char more[80];
    unsigned percent =
        stat->total_pages > 0 ? (unsigned)(stat->free_pages * 100 / stat->total_pages) : 0;
    units_print_path(stdout, path);
    printf(": store of format %u, %s\n\n", stat->format, user == NULL ? "not in use" : user);
    print_line("records", stat->records, "");
    print_line("  files", stat->files, units_bytes(stat->bytes).text);
    print_line("    inline", stat->inline_files, "content inside the record");
    snprintf(more, sizeof(more), "content in %" PRIu64 " extents", stat->extents);
    print_line("    in extents", stat->extent_files, more);
    print_line("    unsealed", stat->unsealed_files, "still being written");
    print_line("  directories", stat->directories, "");
    print_line("  symbolic links", stat->symlinks, "");
    print_line("orphans", stat->orphans, "removed when nobody has them open any more");
    snprintf(more, sizeof(more), "%s in pages of %s", units_bytes(stat->file_bytes).text,
             units_bytes(stat->page_size).text);
    print_line("pages", stat->total_pages, more);
    snprintf(more, sizeof(more), "%s, %u %%, used again before the file grows",
             units_bytes(stat->free_pages * stat->page_size).text, percent);
    print_line("  free", stat->free_pages, more);
    printf("  %-18s %12s   of %s\n", "disk available", units_bytes(stat->disk_available).text,
           units_bytes(stat->disk_total).text);
}

static int show(void *arg)
{
    const struct arguments *arguments = arg;
    const struct store_options options = {.read_only = true};
    struct store_stat stat;
    struct store *store;
    char why[STORE_WHY_MAX];
    if (store_open(arguments->store, &options, &store, why) < 0)
        return cli_failure("stat", "%s", why);
    bool in_use = beside_owner(store, "stat", why);
    int r = store_stat(store, true, &stat);
    store_close(store);
    if (r < 0)
        return cli_failure("stat", "%s: cannot read the store: %s; see lmdbfs check",
                           arguments->store, strerror(-r));
    if (arguments->json)
        print_json(&stat, in_use);
    else
        print_table(arguments->store, &stat, in_use ? why : NULL);
    return CLI_OK;
}

/* The argument is a store, or something in a mount: whoever has a mount at hand wants to know how
 * that one does. */
static int show_what_it_is(struct arguments *arguments)
{
    cleanup_free char *path = mountpoint_resolve(arguments->store);
    cleanup_free char *point = NULL, *source = NULL;
    if (path == NULL || mountpoint_of(path, &point, &source) < 0)
        return child_run("stat", arguments->store, show, arguments);
    if (arguments->json)
        return cli_failure("stat", "%s: for programs, the figures of a mount are in %s/%s/%s",
                           arguments->store, point, STORE_CONTROL_NAME, STORE_STATS_NAME);
    return stat_mount(point, source);
}

int cmd_stat(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'}, {"json", no_argument, NULL, 'j'}, {0}};
    struct arguments arguments = {0};
    int found;
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (found == 'h') {
            print_help();
            return CLI_OK;
        }
        if (found != 'j')
            return cli_option_error("stat", found, argv);
        arguments.json = true;
    }
    if (argc - optind != 1)
        return cli_usage_error("stat", "a store or a mount point is needed%s",
                               argc - optind > 1 ? ", and nothing else" : "");
    arguments.store = argv[optind];
    return show_what_it_is(&arguments);
}
