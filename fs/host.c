/* SPDX-License-Identifier: BSD-2-Clause */
#include "host.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/util.h"

/* How often a tree is gone through that doesn't get empty. */
#define REMOVE_ROUNDS 100

static int open_directory(int fd, const char *name)
{
    int found = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    return found < 0 ? -errno : found;
}

/* ------------------------------------------------------------------ paths -- */

/* The name at *rest, which moves behind it: 1, 0 at the end. */
static int next_name(const char **rest, char name[NAME_MAX + 1])
{
    size_t length = strcspn(*rest, "/");
    if (length > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, *rest, length);
    name[length] = '\0';
    *rest += length;
    return length > 0;
}

/* Go on with `next` instead of *fd. */
static int step(int *fd, int next)
{
    if (next < 0)
        return next;
    cleanup_fd_p(fd);
    *fd = next;
    return 0;
}

/* The same as `st`, as far as we may. */
static void set_like(int fd, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (fchown(fd, st->st_uid, st->st_gid) == 0)
        (void)fchmod(fd, st->st_mode & 07777);
    (void)futimens(fd, times);
}

/* The directory `name` in `to`, made like that which is open as `original`. */
static int make_like(int original, int to, const char *name)
{
    struct stat st;
    if (fstat(original, &st) < 0)
        return -errno;
    bool made = mkdirat(to, name, 0700) == 0;
    if (!made && errno != EEXIST)
        return -errno;
    int fd = open_directory(to, name);
    if (fd >= 0 && made)
        set_like(fd, &st);
    return fd;
}

/* Up to `end` of `path`; the result is where that is below `to`, or below `fd` if `to` is -1. */
static int follow(int fd, const char *path, const char *end, int to)
{
    char name[NAME_MAX + 1];
    cleanup_fd int here = open_directory(fd, ".");
    cleanup_fd int there = to < 0 ? -1 : open_directory(to, ".");
    int r = here < 0 ? here : to >= 0 && there < 0 ? there : 0;
    while (r == 0 && (path += strspn(path, "/")) < end && (r = next_name(&path, name)) == 1) {
        r = step(&here, open_directory(here, name));
        if (r == 0 && to >= 0)
            r = step(&there, make_like(here, there, name));
    }
    if (r < 0)
        return r;
    return to < 0 ? steal_fd(&here) : steal_fd(&there);
}

int host_open_directory(int fd, const char *path)
{
    return follow(fd, path, path + strlen(path), -1);
}

/* Where the last name of a path begins. */
static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

int host_open_parent(int fd, const char *path, const char **name)
{
    *name = last_name(path);
    return follow(fd, path, *name, -1);
}

int host_copy_parents(int fd, const char *path, int to, const char **name)
{
    *name = last_name(path);
    return follow(fd, path, *name, to);
}

int host_own_directory(int fd, const char *name, mode_t mode)
{
    if (mkdirat(fd, name, mode) < 0 && errno != EEXIST)
        return -errno;
    cleanup_fd int own = open_directory(fd, name);
    struct stat st;
    if (own < 0)
        return own;
    if (fstat(own, &st) < 0)
        return -errno;
    return st.st_uid != geteuid() || (st.st_mode & 022) != 0 ? -EPERM : steal_fd(&own);
}

/* --------------------------------------------------------------- listings -- */

int host_list(int fd, host_name_fn *each, void *arg)
{
    int copy = open_directory(fd, ".");
    cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        int error = copy < 0 ? copy : -errno;
        cleanup_fd_p(&copy);
        return error;
    }
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (errno = 0, entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = each(arg, entry->d_name);
    return r == 0 ? -errno : r;
}

/* --------------------------------------------------------------- removing -- */

/*
 * Directories inside of directories are moved up beside their parent's siblings, so the tree gets
 * flatter with each round until all are empty.
 */
struct removal {
    int top;
    int here; /* a directory in it */
    unsigned moved;
};

static int remove_inner(void *arg, const char *name)
{
    struct removal *removal = arg;
    if (unlinkat(removal->here, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    char other[NAME_MAX + 1];
    do {
        snprintf(other, sizeof(other), ".removed-%u", removal->moved++);
    } while (renameat2(removal->here, name, removal->top, other, RENAME_NOREPLACE) < 0 &&
             errno == EEXIST);
    return 0; /* if it failed, removing its directory will, too */
}

static int remove_outer(void *arg, const char *name)
{
    struct removal *removal = arg;
    if (unlinkat(removal->top, name, 0) == 0 || errno == ENOENT)
        return 0;
    cleanup_fd int fd = open_directory(removal->top, name);
    if (fd < 0)
        return fd;
    removal->here = fd;
    int r = host_list(fd, remove_inner, removal);
    if (r == 0 && unlinkat(removal->top, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY)
        r = -errno;
    return r;
}

int host_remove_tree(int fd, const char *name)
{
    if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    cleanup_fd int top = open_directory(fd, name);
    if (top < 0)
        return top;
    struct removal removal = {.top = top};
    int r = -ENOTEMPTY;
    for (int round = 0; r == -ENOTEMPTY && round < REMOVE_ROUNDS; round++) {
        r = host_list(top, remove_outer, &removal);
        if (r == 0 && unlinkat(fd, name, AT_REMOVEDIR) < 0)
            r = -errno;
    }
    return r;
}
