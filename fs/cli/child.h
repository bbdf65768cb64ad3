/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child.h: work on a store that may be damaged, in a process of its own.
 *
 * LMDB trusts its pages: a damaged tree can end who walks it with SIGSEGV, SIGBUS or abort(). In a
 * child that is an error to report.
 */
#ifndef FS_CLI_CHILD_H
#define FS_CLI_CHILD_H

/*
 * Run `work` in a child and return the exit code, its own or CLI_FAILURE with a line on standard
 * error that names `store`. Signals that ask the parent to end are passed on to the child.
 */
int child_run(const char *command, const char *store, int (*work)(void *arg), void *arg);

#endif
