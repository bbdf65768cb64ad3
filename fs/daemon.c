/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "log.h"
#include "store/util.h"

static int wait_exit(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return EXIT_FAILURE;
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EXIT_FAILURE;
    log_line(LOG_ERR, "the daemon was killed by a signal while it started: %s",
             strsignal(WTERMSIG(status)));
    return EXIT_FAILURE;
}

/* What is opened later must not become somebody's standard output. */
static void fill_standard_files(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int daemon_start(int (*work)(void *arg, int ready_fd), void *arg)
{
    fill_standard_files();
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        log_line(LOG_ERR, "can't make a pipe: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    pid_t pid = fork();
    if (pid < 0) {
        log_line(LOG_ERR, "can't start another process: %s", strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return EXIT_FAILURE;
    }
    if (pid == 0) {
        close(ends[0]);
        exit(work(arg, ends[1]));
    }
    close(ends[1]);
    cleanup_fd int ready = ends[0];
    char byte;
    ssize_t count;
    do
        count = read(ready, &byte, sizeof(byte));
    while (count < 0 && errno == EINTR);
    return count == 1 ? EXIT_SUCCESS : wait_exit(pid);
}

void daemon_ready(int ready_fd)
{
    if (ready_fd < 0)
        return;
    setsid();
    if (chdir("/") < 0)
        log_line(LOG_WARNING, "can't leave the working directory: %s", strerror(errno));
    log_to_syslog();
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    cleanup_fd int ready = ready_fd;
    if (write(ready, "", 1) != 1)
        log_line(LOG_WARNING, "the process that started the mount has gone: %s", strerror(errno));
}
