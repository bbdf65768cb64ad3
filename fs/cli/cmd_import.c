/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "progress.h"
#include "store/util.h"

struct arguments {
    const char *store, *from, *to;
    bool quiet;
};

static void print_help(void)
{
    printf("usage: lmdbfs import [-q] STORE DIR [DEST]\n"
           "\n"
           "Copies everything in directory DIR into STORE, which is made if it does not exist:\n"
           "into its root, or into the directory DEST of the store, made if it is missing.\n"
           "Files that are there already are replaced, directories are merged. Permissions,\n"
           "owners, times, symbolic and hard links are kept; a DEST that is new or empty gets\n"
           "those of DIR. Fifos, sockets and devices are named and skipped.\n"
           "\n"
           "  -q, --quiet   no progress and no summary\n"
           "\n"
           "The store must not be in use. While it is mounted, copy files into the mount instead.\n"
           "Interrupted with ^C, the store is whole and what was imported so far stays.\n"
           "\n"
           "Exit status: 0 done, 1 failed or could not read some files, 2 wrong usage.\n"
           "\n"
           "Example: lmdbfs import /var/lib/cache.lmdbfs /var/db/repos/guru/metadata/md5-cache\n");
}

static int open_store(const struct arguments *arguments, struct store **store)
{
    char why[STORE_WHY_MAX];
    cleanup_free char *purpose = NULL;
    if (asprintf(&purpose, "lmdbfs import of %s", arguments->from) < 0)
        return cli_failure("import", "out of memory");
    const struct store_options options = {.create = true, .purpose = purpose};
    int r = store_open(arguments->store, &options, store, why);
    if (r == -EBUSY)
        return cli_failure("import", "%s, or copy the files into the mount", why);
    if (r < 0)
        return cli_failure("import", "%s", why);
    r = store_recover(*store);
    if (r < 0) {
        store_close(*store);
        return cli_failure("import", "%s: cannot put in order what a crash has left: %s",
                           arguments->store, strerror(-r));
    }
    return CLI_OK;
}

static int import(void *arg)
{
    const struct arguments *arguments = arg;
    struct progress progress;
    struct store_work work;
    struct store *store;
    int code = open_store(arguments, &store);
    if (code != CLI_OK)
        return code;
    progress_start(&progress, "import", arguments->quiet);
    struct store_observer observer = progress_observer(&progress);
    int r = store_import(store, arguments->from, arguments->to, &observer, &work);
    store_close(store);
    progress_clear(&progress);
    if (r == -EINTR)
        return cli_failure("import", "interrupted; what was imported so far stays (%llu files)",
                           (unsigned long long)work.files);
    if (r < 0)
        return CLI_FAILURE; /* the last message said why */
    progress_summary(&progress, "imported", &work);
    return work.problems > 0 ? CLI_FAILURE : CLI_OK;
}

/* Before a store is made for nothing. */
static int check_source(const char *path)
{
    cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        return CLI_OK;
    return cli_failure("import", "%s: cannot read it: %s%s", path, strerror(errno),
                       errno == ENOTDIR ? "; give the directory that holds it" : "");
}

int cmd_import(int argc, char **argv)
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
            return cli_option_error("import", found, argv);
        arguments.quiet = true;
    }
    if (argc - optind < 2 || argc - optind > 3)
        return cli_usage_error("import", "a store and a directory are needed%s",
                               argc - optind > 3 ? ", a destination, and nothing else" : "");
    arguments.store = argv[optind];
    arguments.from = argv[optind + 1];
    arguments.to = argv[optind + 2]; /* or NULL, which ends argv */
    int code = check_source(arguments.from);
    return code != CLI_OK ? code : child_run("import", arguments.store, import, &arguments);
}
