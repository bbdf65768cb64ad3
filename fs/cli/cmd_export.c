/* SPDX-License-Identifier: BSD-2-Clause */
#include "beside.h"
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "child.h"
#include "progress.h"

struct arguments {
    const char *store, *to, *from;
    bool quiet;
};

static void print_help(void)
{
    printf("usage: lmdbfs export [-q] STORE DIR [SRC]\n"
           "\n"
           "Copies everything in STORE, or only its file or directory SRC, into directory DIR,\n"
           "which is made if it does not exist. Files that are in the way are replaced,\n"
           "directories are merged. Permissions (with the write bits that a mount doesn't\n"
           "show), times, symbolic and hard links are kept, and owners if you are root.\n"
           "Every file is verified by its hash; a damaged one is named and not written.\n"
           "\n"
           "  -q, --quiet   no progress and no summary\n"
           "\n"
           "Works while the store is mounted.\n"
           "\n"
           "Exit status: 0 done, 1 failed or could not copy some files, 2 wrong usage.\n"
           "\n"
           "Example: lmdbfs export /var/lib/cache.lmdbfs /tmp/out app-misc\n");
}

/* What is damaged is told by the export itself. */
static void ignore(void *arg, const char *line)
{
    (void)arg, (void)line;
}

static int export(void *arg)
{
    const struct arguments *arguments = arg;
    const struct store_options options = {.read_only = true, .warn = ignore};
    struct progress progress;
    struct store_work work;
    struct store *store;
    char why[STORE_WHY_MAX];
    if (store_open(arguments->store, &options, &store, why) < 0)
        return cli_failure("export", "%s", why);
    (void)beside_owner(store, "export", why);
    progress_start(&progress, "export", arguments->quiet);
    struct store_observer observer = progress_observer(&progress);
    int r = store_export(store, arguments->from, arguments->to, &observer, &work);
    store_close(store);
    progress_clear(&progress);
    if (r == -EINTR)
        return cli_failure("export", "interrupted; what was exported so far stays (%llu files)",
                           (unsigned long long)work.files);
    if (r < 0)
        return CLI_FAILURE; /* the last message said why */
    progress_summary(&progress, "exported", &work);
    return work.problems > 0 ? CLI_FAILURE : CLI_OK;
}

int cmd_export(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'}, {"quiet", no_argument, NULL, 'q'}, {0}};
    struct arguments arguments = {0};
    int found;
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":qh", options, NULL)) != -1) {
        if (found == 'h') {
            print_help();
            return CLI_OK;
        }
        if (found != 'q')
            return cli_option_error("export", found, argv);
        arguments.quiet = true;
    }
    if (argc - optind < 2 || argc - optind > 3)
        return cli_usage_error("export", "a store and a directory are needed%s",
                               argc - optind > 3 ? ", a source, and nothing else" : "");
    arguments.store = argv[optind];
    arguments.to = argv[optind + 1];
    arguments.from = argv[optind + 2]; /* or NULL, which ends argv */
    return child_run("export", arguments.store, export, &arguments);
}
