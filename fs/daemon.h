/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * daemon.h: going into the background, only after it is clear that the work can be done.
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

/*
 * Run `work` in a child process, which still has the terminal to say what is wrong, and return
 * when it has called daemon_ready(), or has ended. Returns the exit code for the caller: 0, or
 * what the child ended with. `work` gets what daemon_ready() needs.
 */
int daemon_start(int (*work)(void *arg, int ready_fd), void *arg);

/* Leave the terminal: a session of our own, no files, syslog for messages. Then let the parent
 * go. A negative `ready_fd` means that we stay in the foreground: nothing to do. */
void daemon_ready(int ready_fd);

#endif
