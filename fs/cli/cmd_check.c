/* SPDX-License-Identifier: BSD-2-Clause */
#include "beside.h"
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "progress.h"

struct arguments {
    const char *store;
    bool quiet;
};

static void print_help(void)
{
    printf("usage: lmdbfs check [-q] STORE\n"
           "\n"
           "Reads everything in STORE: verifies the hash of every file, and that directories,\n"
           "records, link counts and content agree with each other. Each problem is a line\n"
           "\"PATH: what is wrong\" on standard output. Nothing is changed.\n"
           "\n"
           "  -q, --quiet   no progress and no summary, only problems\n"
           "\n"
           "Works while the store is mounted. What is in the machine's memory is not read again\n"
           "from the disk. Needs about 100 MiB of memory, whatever the size of the store.\n"
           "\n"
           "Exit status: 0 no problem, 1 problems or failed, 2 wrong usage.\n"
           "\n"
           "Example: lmdbfs check /var/lib/cache.lmdbfs\n");
}

static void summarize(struct progress *progress, const struct store_work *work)
{
    progress_summary(progress, "verified", work);
    if (progress->quiet)
        return;
    if (work->problems == 0)
        printf("no problems found\n");
    else
        printf("%" PRIu64 " problem%s found; what can be read can be saved with lmdbfs export\n",
               work->problems, work->problems == 1 ? "" : "s");
}

static int check(void *arg)
{
    const struct arguments *arguments = arg;
    const struct store_options options = {.read_only = true};
    struct progress progress;
    struct store_work work;
    struct store *store;
    char why[STORE_WHY_MAX];
    if (store_open(arguments->store, &options, &store, why) < 0)
        return cli_failure("check", "%s", why);
    progress_start(&progress, NULL, arguments->quiet);
    if (beside_owner(store, "check", why) && !arguments->quiet)
        printf("the store is in use, %s: what changes during the check may go unchecked\n", why);
    struct store_observer observer = progress_observer(&progress);
    int r = store_check(store, &observer, &work);
    store_close(store);
    progress_clear(&progress);
    if (r == -EINTR)
        return cli_failure("check", "interrupted");
    if (r < 0)
        return cli_failure("check", "%s: the check did not come to its end: %s", arguments->store,
                           strerror(-r));
    summarize(&progress, &work);
    return work.problems > 0 ? CLI_FAILURE : CLI_OK;
}

int cmd_check(int argc, char **argv)
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
            return cli_option_error("check", found, argv);
        arguments.quiet = true;
    }
    if (argc - optind != 1)
        return cli_usage_error("check", "a store is needed%s",
                               argc - optind > 1 ? ", and nothing else" : "");
    arguments.store = argv[optind];
    return child_run("check", arguments.store, check, &arguments);
}
