/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_reject.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host.h"
#include "log.h"
#include "store/util.h"

#define REJECTED_NAME ".rejected"
#define REASON_SUFFIX ".reason"

/* Numbers that are tried for a name. */
#define NUMBERS_MOST 100000

/* A name with a number and a suffix behind it; what gets too long for that is cut. */
struct numbered {
    char text[NAME_MAX + 1];
};

static struct numbered number_name(const char *name, size_t length, unsigned number,
                                   const char *suffix)
{
    char tail[32] = "";
    struct numbered numbered;
    if (number > 0)
        snprintf(tail, sizeof(tail), ".%u", number);
    size_t room = NAME_MAX - strlen(tail) - sizeof(REASON_SUFFIX);
    snprintf(numbered.text, sizeof(numbered.text), "%.*s%s%s", (int)(length < room ? length : room),
             name, tail, suffix);
    return numbered;
}

int reject_open(struct reject *reject, int inbox, char why[STORE_WHY_MAX])
{
    *reject = (struct reject){.fd = host_own_directory(inbox, REJECTED_NAME, 0755)};
    if (reject->fd >= 0)
        return 0;
    snprintf(why, STORE_WHY_MAX, "can't use " REJECTED_NAME " in the inbox: %s",
             reject->fd == -EPERM ? "it must be ours, and nobody else may write in it"
                                  : strerror(-reject->fd));
    return reject->fd;
}

void reject_close(struct reject *reject)
{
    cleanup_fd_p(&reject->fd);
    reject->fd = -1;
}

/* The directory for a component of the path; a number helps where a file has its name. */
static int enter(int fd, const char *name, size_t length)
{
    int r = -EEXIST;
    for (unsigned number = 0; number < NUMBERS_MOST; number++) {
        struct numbered numbered = number_name(name, length, number, "");
        r = host_own_directory(fd, numbered.text, 0755);
        if (r != -ENOTDIR && r != -ELOOP && r != -EPERM)
            break;
    }
    return r;
}

/* The directory for what is at `path`; *name is the last name in it. */
static int open_place(const struct reject *reject, const char *path, const char **name)
{
    cleanup_fd int here = host_open_directory(reject->fd, "");
    const char *slash;
    while (here >= 0 && (slash = strchr(path, '/')) != NULL) {
        int next = enter(here, path, (size_t)(slash - path));
        cleanup_fd_p(&here);
        here = next;
        path = slash + 1;
    }
    *name = path;
    return steal_fd(&here);
}

static int write_reason(int fd, const char *name, const char *reason)
{
    cleanup_fd int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0)
        return -errno;
    if (dprintf(file, "%s\n", reason) < 0) {
        int error = -errno;
        (void)unlinkat(fd, name, 0);
        return error;
    }
    return 0;
}

/* The reason first: it also keeps the number free for what it is about. */
static int move(int from, const char *old, int to, const char *name, const char *reason)
{
    int r = -EEXIST;
    for (unsigned number = 0; r == -EEXIST && number < NUMBERS_MOST; number++) {
        struct numbered target = number_name(name, strlen(name), number, "");
        struct numbered beside = number_name(name, strlen(name), number, REASON_SUFFIX);
        r = write_reason(to, beside.text, reason);
        if (r == 0 && renameat2(from, old, to, target.text, RENAME_NOREPLACE) < 0) {
            r = -errno;
            (void)unlinkat(to, beside.text, 0);
        }
    }
    return r;
}

int reject_move(struct reject *reject, int fd, const char *from, const char *path,
                const char *reason)
{
    const char *old, *name;
    struct stat st;
    cleanup_fd int source = host_open_parent(fd, from, &old);
    if (source == -ENOENT ||
        (source >= 0 && fstatat(source, old, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT))
        return 0;
    if (source < 0)
        return source;
    cleanup_fd int place = open_place(reject, path, &name);
    int r = place < 0 ? place : move(source, old, place, name, reason);
    if (r < 0)
        return r;
    if (reject->lines++ < REJECT_LINES_MOST)
        log_line(LOG_WARNING, "inbox: %s is in " REJECTED_NAME " now: %s%s", path, reason,
                 reject->lines == REJECT_LINES_MOST ? "; no more lines about such" : "");
    return 1;
}
