/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fs/companion.h"
#include "store/util.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *synopsis;
};

static const struct command commands[] = {
    {"mount", cmd_mount, "show a store as a directory tree"},
    {"import", cmd_import, "copy a directory tree into a store"},
    {"export", cmd_export, "copy a store's tree into a directory"},
    {"stat", cmd_stat, "tell what a store holds"},
    {"check", cmd_check, "verify everything in a store"},
};

int cli_failure(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "lmdbfs %s: ", command);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_FAILURE;
}

int cli_usage_error(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "lmdbfs %s: ", command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; see lmdbfs %s --help\n", command);
    va_end(args);
    return CLI_USAGE;
}

int cli_option_error(const char *command, int found, char **argv)
{
    if (found == ':')
        return cli_usage_error(command, "option -%c needs an argument", optopt);
    /* getopt_long() leaves a letter in optopt, or 0 after an unknown long option. */
    if (optopt != 0 && strncmp(argv[optind - 1], "--", 2) != 0)
        return cli_usage_error(command, "unknown option -%c", optopt);
    return cli_usage_error(command, "unknown option %s", argv[optind - 1]);
}

static void print_help(void)
{
    printf("lmdbfs shows the records of an LMDB store as read-only files.\n"
           "\n"
           "usage: lmdbfs COMMAND [OPTION...] STORE ...\n"
           "\n");
    for (size_t i = 0; i < array_length(commands); i++)
        printf("  %-8s %s\n", commands[i].name, commands[i].synopsis);
    printf("\n"
           "  lmdbfs COMMAND --help   what a command takes\n"
           "  lmdbfs --version\n"
           "\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < array_length(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (word == NULL) {
        fprintf(stderr, "lmdbfs: no command given; see lmdbfs --help\n");
        return CLI_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_help();
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("lmdbfs %s\n", LMDBFS_VERSION);
        return CLI_OK;
    }
    if (strcmp(word, "companion") == 0) /* not for people */
        return companion_main();
    const struct command *command = find_command(word);
    if (command == NULL) {
        fprintf(stderr, "lmdbfs: unknown %s %s; see lmdbfs --help\n",
                word[0] == '-' ? "option" : "command", word);
        return CLI_USAGE;
    }
    return command->run(argc - 1, argv + 1);
}

int cli_finish(int code)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
        fprintf(stderr, "lmdbfs: can't write to standard output: %s\n", strerror(errno));
        code = CLI_FAILURE;
    }
    return code;
}

int main(int argc, char **argv)
{
    /* The store takes leases, and whoever waits for one to end would have the kernel tell us. */
    signal(SIGIO, SIG_IGN);
    return cli_finish(run(argc, argv));
}
