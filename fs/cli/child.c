/* SPDX-License-Identifier: BSD-2-Clause */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "store/util.h"

static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP};

static volatile sig_atomic_t child_pid;

static void pass_on(int signal)
{
    int saved = errno;
    (void)kill(child_pid, signal);
    errno = saved;
}

static void set_passed_on(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < array_length(passed_on); i++)
        sigaddset(set, passed_on[i]);
}

/* Nobody waits for a child whose parent was killed, and it may own the store. */
static void die_with(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CLI_FAILURE);
}

static int tell_death(const char *command, const char *store, int number)
{
    switch (number) {
    case SIGSEGV:
    case SIGBUS:
    case SIGABRT:
    case SIGILL:
    case SIGFPE:
        return cli_failure(command,
                           "%s: the tree of data.mdb is damaged (signal %d, %s); export what can "
                           "be read, or restore a backup",
                           store, number, strsignal(number));
    case SIGPIPE: /* nobody reads what we would say */
        return CLI_FAILURE;
    case SIGINT:
    case SIGTERM:
    case SIGHUP:
        return cli_failure(command, "interrupted");
    default:
        return cli_failure(command, "%s: the work was ended (signal %d, %s)", store, number,
                           strsignal(number));
    }
}

static int wait_for(const char *command, const char *store, pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return cli_failure(command, "cannot wait for the work: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : tell_death(command, store, WTERMSIG(status));
}

int child_run(const char *command, const char *store, int (*work)(void *arg), void *arg)
{
    sigset_t set, before;
    pid_t parent = getpid();
    fflush(stdout);
    set_passed_on(&set);
    (void)sigprocmask(SIG_BLOCK, &set, &before); /* until it is known who is to get them */
    pid_t child = fork();
    if (child < 0) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        return cli_failure(command, "cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        die_with(parent);
        /* Until somebody flushes it: LMDB's own words before it aborts are nothing for the user. */
        (void)setvbuf(stderr, NULL, _IOFBF, BUFSIZ);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        exit(cli_finish(work(arg)));
    }
    child_pid = child;
    const struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < array_length(passed_on); i++)
        (void)sigaction(passed_on[i], &action, NULL);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return wait_for(command, store, child);
}
