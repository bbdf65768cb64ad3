/* SPDX-License-Identifier: BSD-2-Clause */
/* record_names.c: calls that open files, and that make, move and remove their names. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "record.h"

/* A change of one or two names that succeeded. With the lock held. */
static void note_names(enum entry_kind kind, uint64_t inode, const char *name, const char *other)
{
    char text[2 * PATH_MAX];
    if (name == NULL)
        return;
    int length = snprintf(text, sizeof(text), "%s%c%s", name, 0, other == NULL ? "" : other);
    if (other == NULL)
        length--;
    struct iovec part = {text, (size_t)length};
    record_note_locked((struct entry){.kind = kind, .inode = inode, .length = part.iov_len}, &part,
                       1);
}

static uint64_t inode_of(int dir, const char *path)
{
    struct stat st;
    return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_ino;
}

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC))) {
        int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
        if (fd >= 0)
            record_opened(fd, flags);
        return fd;
    }
    bool on = record_enter();
    const char *name = on ? record_name(dir, path, buffer) : NULL;
    bool there = name != NULL && inode_of(dir, path) != 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (on && fd >= 0) {
        record_opened(fd, flags);
        if (name != NULL && !there)
            note_names(ENTRY_CREATE, record_inode(fd), name, NULL);
        else if (record_inode(fd) != 0 && (flags & O_TRUNC))
            record_note_locked((struct entry){.kind = ENTRY_TRUNCATE, .inode = record_inode(fd)},
                               NULL, 0);
    }
    record_leave(on);
    return fd;
}

static mode_t mode_argument(int flags, va_list args)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_argument(flags, args);
    va_end(args);
    return do_open(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_argument(flags, args);
    va_end(args);
    return do_open(dir, path, flags, mode);
}

int close(int fd)
{
    record_closed(fd);
    return (int)syscall(SYS_close, fd);
}

int closedir(DIR *dir)
{
    static _Atomic(void *) next;
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "closedir");
    record_closed(dirfd(dir));
    int (*function)(DIR *);
    void *found = next;
    memcpy(&function, &found, sizeof(function));
    return function(dir);
}

static int copy_of(int fd, int copy)
{
    if (copy >= 0 && copy < RECORD_FDS && fd >= 0 && fd < RECORD_FDS) {
        record_files[copy].directory = record_files[fd].directory;
        record_files[copy].synchronous = record_files[fd].synchronous;
        record_files[copy].inode = record_inode(fd);
    }
    return copy;
}

int dup(int fd)
{
    return copy_of(fd, (int)syscall(SYS_dup, fd));
}

int dup3(int fd, int wanted, int flags)
{
    return copy_of(fd, (int)syscall(SYS_dup3, fd, wanted, flags));
}

int dup2(int fd, int wanted)
{
    return fd == wanted ? wanted : dup3(fd, wanted, 0);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    char buffer[PATH_MAX];
    bool on = record_enter();
    int r = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (on && r == 0)
        note_names(ENTRY_MKDIR, inode_of(dir, path), record_name(dir, path, buffer), NULL);
    record_leave(on);
    return r;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dir, const char *path, int flags)
{
    char buffer[PATH_MAX];
    bool on = record_enter();
    uint64_t inode = on ? inode_of(dir, path) : 0;
    int r = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (on && r == 0)
        note_names(ENTRY_REMOVE, inode, record_name(dir, path, buffer), NULL);
    record_leave(on);
    return r;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int renameat(int old_dir, const char *old, int new_dir, const char *new)
{
    char buffer[2][PATH_MAX];
    bool on = record_enter();
    const char *from = on ? record_name(old_dir, old, buffer[0]) : NULL;
    const char *to = on ? record_name(new_dir, new, buffer[1]) : NULL;
    int r = (int)syscall(SYS_renameat2, old_dir, old, new_dir, new, 0);
    if (r == 0 && (from == NULL) != (to == NULL))
        record_die("a file is moved over the edge of what is recorded");
    if (on && r == 0)
        note_names(ENTRY_RENAME, inode_of(new_dir, new), from, to);
    record_leave(on);
    return r;
}

int rename(const char *old, const char *new)
{
    return renameat(AT_FDCWD, old, AT_FDCWD, new);
}

int linkat(int old_dir, const char *old, int new_dir, const char *new, int flags)
{
    char buffer[PATH_MAX];
    bool on = record_enter();
    int r = (int)syscall(SYS_linkat, old_dir, old, new_dir, new, flags);
    if (on && r == 0)
        note_names(ENTRY_LINK, inode_of(new_dir, new), record_name(new_dir, new, buffer), NULL);
    record_leave(on);
    return r;
}

int open64(const char *path, int flags, ...) SAME_AS(open);
int openat64(int dir, const char *path, int flags, ...) SAME_AS(openat);
