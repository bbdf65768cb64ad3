/* SPDX-License-Identifier: BSD-2-Clause */
#include "beside.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "store/util.h"

/* A commit takes milliseconds, one that has a large file to bring in, seconds. */
#define ANSWER_MOST_MS 30000

/* The mount point in "mounted on PATH (pid 7)"; false: it is no mount. */
static bool mount_point(const char by[STORE_WHY_MAX], char path[STORE_WHY_MAX])
{
    const size_t length = strlen(BESIDE_MOUNTED);
    if (strncmp(by, BESIDE_MOUNTED, length) != 0)
        return false;
    snprintf(path, STORE_WHY_MAX, "%s", by + length);
    char *end = strrchr(path, '(');
    if (end == NULL || end < path + 2)
        return false;
    end[-1] = '\0';
    return true;
}

static void commit(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _exit(fd < 0 || fsync(fd) < 0);
}

/* By a process of its own, since who waits for a mount that doesn't answer can't do anything else.
 */
static bool commit_in_time(const char *path)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        commit(path);
    if (pid < 0)
        return false;
    cleanup_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    if (fd >= 0 && poll(&ended, 1, ANSWER_MOST_MS) == 0)
        (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return status == 0;
}

bool beside_owner(struct store *store, const char *command, char by[STORE_WHY_MAX])
{
    char path[STORE_WHY_MAX];
    if (!store_in_use(store, by))
        return false;
    if (mount_point(by, path) && !commit_in_time(path))
        fprintf(stderr,
                "lmdbfs %s: the mount on %s does not commit its latest changes now; they may be "
                "missing\n",
                command, path);
    return true;
}
