/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char root[PATH_MAX]; /* without a slash at its end; "" = nothing is recorded */
static int log_fd = -1;
static uint64_t entries; /* written so far */

struct record_file record_files[RECORD_FDS];

/* Held while an entry is written, too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void record_die(const char *what)
{
    fprintf(stderr, "recording the store: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *directory = getenv("POWER_ROOT"), *path = getenv("POWER_LOG");
    unsetenv("LD_PRELOAD");
    if (directory == NULL || path == NULL)
        return;
    if (realpath(directory, root) == NULL)
        record_die(directory);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
    /* Out of the way of the numbers that the process expects to get. */
    log_fd = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 1000);
    if (log_fd < 0)
        record_die(path);
    syscall(SYS_close, fd);
}

bool record_enter(void)
{
    if (root[0] == '\0')
        return false;
    pthread_mutex_lock(&lock);
    return true;
}

void record_leave(bool entered)
{
    if (entered)
        pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------------ the log -- */

static void put(const void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        long n = syscall(SYS_write, log_fd, (const char *)bytes + done, length - done);
        if (n < 0 && errno != EINTR)
            record_die("cannot write the log");
        done += n < 0 ? 0 : (size_t)n;
    }
}

uint64_t record_note_locked(struct entry entry, const struct iovec *parts, int count)
{
    int error = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    entry.time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    size_t left = entry.length;
    put(&entry, sizeof(entry));
    for (int i = 0; i < count && left > 0; i++) {
        size_t length = parts[i].iov_len < left ? parts[i].iov_len : left;
        put(parts[i].iov_base, length);
        left -= length;
    }
    errno = error;
    return entries++;
}

uint64_t record_note(struct entry entry, const struct iovec *parts, int count)
{
    pthread_mutex_lock(&lock);
    uint64_t number = record_note_locked(entry, parts, count);
    pthread_mutex_unlock(&lock);
    return number;
}

/* -------------------------------------------------------------- descriptors -- */

/* The part of a path below the root; NULL if it is not there, or of no interest: LMDB's locks, and
 * who owns the store. */
static const char *below(const char *path)
{
    size_t length = strlen(root);
    if (length == 0 || strncmp(path, root, length) != 0)
        return NULL;
    if (path[length] == '\0')
        return path + length;
    const char *name = path + length + 1;
    bool other = path[length] != '/' || strcmp(name, "lock.mdb") == 0 || strcmp(name, "owner") == 0;
    return other ? NULL : name;
}

/* What an open descriptor is called, in `buffer`. */
static const char *path_of(int fd, char buffer[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    buffer[n < 0 ? 0 : n] = '\0';
    return below(buffer);
}

const char *record_name(int dir, const char *path, char buffer[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX];
    snprintf(parent, sizeof(parent), "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
             slash == NULL ? "." : path);
    int fd = (int)syscall(SYS_openat, dir, parent, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    bool inside = path_of(fd, buffer) != NULL;
    syscall(SYS_close, fd);
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", slash == NULL ? path : slash + 1);
    return inside ? below(buffer) : NULL;
}

uint64_t record_inode(int fd)
{
    return fd >= 0 && fd < RECORD_FDS ? atomic_load(&record_files[fd].inode) : 0;
}

void record_opened(int fd, int flags)
{
    char buffer[PATH_MAX];
    struct stat st;
    if (root[0] == '\0')
        return;
    bool found = path_of(fd, buffer) != NULL && fstat(fd, &st) == 0;
    if (fd < RECORD_FDS && found) {
        record_files[fd].directory = S_ISDIR(st.st_mode);
        record_files[fd].synchronous = flags & (O_DSYNC | O_SYNC);
    }
    if (fd < RECORD_FDS)
        record_files[fd].inode = found ? st.st_ino : 0;
    else if (found)
        record_die("too many descriptors");
}

void record_closed(int fd)
{
    if (fd >= 0 && fd < RECORD_FDS)
        record_files[fd].inode = 0;
}
