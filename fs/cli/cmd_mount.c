/* SPDX-License-Identifier: BSD-2-Clause */
#include "beside.h"
#include "cli.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "fs/backing.h"
#include "fs/buffer.h"
#include "fs/daemon.h"
#include "fs/log.h"
#include "fs/memory.h"
#include "fs/mount.h"
#include "fs/mountpoint.h"
#include "fs/sealing.h"
#include "store/util.h"

struct arguments {
    struct mount_options options;
    bool foreground;
    bool help;
};

static void print_help(void)
{
    printf("usage: lmdbfs mount [-f] [-d] [-o OPTION,...] STORE MOUNTPOINT\n"
           "\n"
           "Shows STORE, which is made if it does not exist, as a directory tree on MOUNTPOINT.\n"
           "Returns when the mount answers; a daemon serves it until it is unmounted with\n"
           "umount(8), or with fusermount3 -u by who is not root.\n"
           "\n"
           "  -f   stay in the foreground; ^C unmounts\n"
           "  -d   the same, and print every request\n"
           "  -o   mount options:\n"
           "\n");
    options_print_help();
}

/* ------------------------------------------------------------------ serving -- */

static void on_sealed(void *arg, uint64_t id)
{
    mount_attr_changed(arg, id);
}

static void on_unsealed(void *arg, uint64_t id)
{
    sealing_released(arg, id);
}

static void on_crowded(void *arg)
{
    struct mount *mount = arg;
    prune_want(&mount->prune);
}

static void on_warning(void *arg, const char *line)
{
    (void)arg;
    log_line(LOG_WARNING, "%s", line);
}

/*
 * A read-only mount owns the store as any other: what the kernel caches, and the promise that an
 * open file stays readable, hold only as long as nobody else changes the store. Only on a disk
 * where nobody can change it, it is opened without.
 */
static int open_store(struct mount *mount, struct store **store, char why[STORE_WHY_MAX])
{
    const struct mount_options *options = mount->options;
    cleanup_free char *purpose = NULL;
    if (asprintf(&purpose, BESIDE_MOUNTED "%s", options->mountpoint) < 0) {
        snprintf(why, STORE_WHY_MAX, "out of memory");
        return -ENOMEM;
    }
    struct memory_share share = memory_divide(options->memory);
    buffer_limit(share.answers);
    struct store_options how = {
        .create = options_write(options),
        .purpose = purpose,
        .verify = options->verify,
        .commit_ms = options->commit_ms,
        .sync = options->sync,
        .leases_max = share.leases,
        .transaction_max = share.transaction,
        .pending_max = share.pending,
        .sealed = on_sealed,
        .unsealed = on_unsealed,
        .crowded = on_crowded,
        .warn = on_warning,
        .arg = mount,
    };
    int r = store_open(options->store_path, &how, store, why);
    if ((r == -EROFS || r == -EPROTONOSUPPORT) && !options_write(options)) {
        how.read_only = true;
        r = store_open(options->store_path, &how, store, why);
    }
    return r;
}

/*
 * A descriptor that becomes readable when one of the signals comes that shall end us. Blocks them;
 * threads started later inherit that. Those that our starter ignores (nohup) stay ignored.
 */
static int catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < array_length(numbers); i++) {
        struct sigaction now;
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaddset(&set, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Open the store, mount it, and serve it until the end. */
static int serve_store(struct mount *mount, int signals, int ready_fd)
{
    char why[STORE_WHY_MAX] = "";
    struct store *store = NULL;
    int r = open_store(mount, &store, why);
    if (r == 0 && options_write(mount->options)) {
        r = store_recover(store);
        if (r < 0)
            snprintf(why, sizeof(why), "can't put %s in order after a crash: %s",
                     mount->options->store_path, strerror(-r));
    }
    if (r == 0)
        r = mount_start(mount, store, why);
    if (r == 0) {
        daemon_ready(ready_fd);
        mount_wait(mount, signals);
        mount_stop(mount);
    }
    store_close(store);
    return r < 0 ? cli_failure("mount", "%s", why) : CLI_OK;
}

static int serve(void *arg, int ready_fd)
{
    const struct arguments *arguments = arg;
    /* A core dump waits until all threads have stopped, and those that wait for another one of us
     * can't before the companion sees that we die, which is after the dump. */
    if (!arguments->options.debug)
        (void)prctl(PR_SET_DUMPABLE, 0);
    memory_frugal();
    cleanup_fd int signals = catch_signals();
    struct mount *mount = mount_new(&arguments->options);
    if (signals < 0 || mount == NULL) {
        mount_free(mount);
        return cli_failure("mount", "out of memory or descriptors");
    }
    int code = serve_store(mount, signals, ready_fd);
    mount_free(mount);
    return code;
}

/* ---------------------------------------------------------------- arguments -- */

/* The absolute path of a store, that may not exist yet. */
static char *resolve_store(const char *path)
{
    char *whole = realpath(path, NULL);
    if (whole != NULL || errno != ENOENT)
        return whole;
    if (path[0] == '/')
        return strdup(path);
    cleanup_free char *here = getcwd(NULL, 0);
    if (here == NULL || asprintf(&whole, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path) < 0)
        return NULL;
    return whole;
}

/* Nothing that belongs to us may be taken for something that has arrived. */
static int resolve_inbox(struct mount_options *options)
{
    if (options->inbox == NULL)
        return CLI_OK;
    char *whole = mountpoint_resolve_new(options->inbox);
    if (whole == NULL)
        return cli_failure("mount", "inbox %s: %s", options->inbox, strerror(errno));
    free(options->inbox);
    options->inbox = whole;
    const char *others[] = {options->mountpoint, options->store_path};
    for (size_t i = 0; i < array_length(others); i++)
        if (mountpoint_is_below(whole, others[i]) || mountpoint_is_below(others[i], whole))
            return cli_failure("mount", "the inbox %s and %s must not lie in each other", whole,
                               others[i]);
    return CLI_OK;
}

/* The daemon changes to "/", so paths are made absolute before. */
static int resolve_paths(struct mount_options *options, const char *store, const char *mountpoint)
{
    options->mountpoint = mountpoint_resolve(mountpoint);
    if (options->mountpoint == NULL)
        return cli_failure("mount", "can't mount on %s: %s%s", mountpoint, strerror(errno),
                           errno == ENOENT ? "; make the directory first" : "");
    options->store_path = resolve_store(store);
    if (options->store_path == NULL)
        return cli_failure("mount", "%s: %s", store, strerror(errno));
    if (mountpoint_is_below(options->store_path, options->mountpoint))
        return cli_failure("mount", "the mount on %s would hide the store %s; choose another place",
                           options->mountpoint, options->store_path);
    return resolve_inbox(options);
}

static int parse(struct arguments *arguments, int argc, char **argv)
{
    static const struct option long_options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    char why[STORE_WHY_MAX] = "out of memory";
    int found;
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":fdo:h", long_options, NULL)) != -1) {
        switch (found) {
        case 'f':
            arguments->foreground = true;
            break;
        case 'd':
            arguments->options.debug = true;
            break;
        case 'o':
            if (options_parse(&arguments->options, optarg, why) < 0)
                return cli_usage_error("mount", "%s", why);
            break;
        case 'h':
            arguments->help = true;
            return CLI_OK;
        default:
            return cli_option_error("mount", found, argv);
        }
    }
    if (argc - optind != 2)
        return cli_usage_error("mount", "a store and a mount point are needed%s",
                               argc - optind > 2 ? ", and nothing else" : "");
    arguments->foreground |= arguments->options.debug;
    return resolve_paths(&arguments->options, argv[optind], argv[optind + 1]);
}

static int run(struct arguments *arguments, int argc, char **argv)
{
    char why[STORE_WHY_MAX] = "";
    int code = parse(arguments, argc, argv);
    if (code != CLI_OK)
        return code;
    if (arguments->help) {
        print_help();
        return CLI_OK;
    }
    if (mountpoint_prepare(arguments->options.mountpoint, why) < 0)
        return cli_failure("mount", "%s", why);
    return arguments->foreground ? serve(arguments, -1) : daemon_start(serve, arguments);
}

int cmd_mount(int argc, char **argv)
{
    struct arguments arguments = {.options.clones = BACKING_KEPT_MOST};
    int code = run(&arguments, argc, argv);
    options_destroy(&arguments.options);
    return code;
}
