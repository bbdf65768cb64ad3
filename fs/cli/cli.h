/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cli.h: what the commands of the program share.
 *
 * A command is called with its own name in argv[0] and returns the exit code. main() flushes
 * standard output afterwards and turns a failure of that into CLI_FAILURE, so commands just print.
 * A refusal is one line on standard error that says what was wrong and what to do.
 */
#ifndef FS_CLI_CLI_H
#define FS_CLI_CLI_H

enum { CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2 };

int cmd_mount(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_check(int argc, char **argv);

/* To be called once, where a process ends: flush standard output. Returns the exit code: `code`, or
 * CLI_FAILURE with a line on standard error if what was printed got lost. */
int cli_finish(int code);

/* "lmdbfs COMMAND: ...": something failed. Returns CLI_FAILURE. */
int cli_failure(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for wrong usage, with a pointer to the command's --help. Returns CLI_USAGE. */
int cli_usage_error(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What getopt_long() found when it returned `found` ('?', or ':' for a missing argument), refused
 * by name. To be called with opterr = 0. Returns CLI_USAGE. */
int cli_option_error(const char *command, int found, char **argv);

#endif
