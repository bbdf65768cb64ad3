/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dying_disk.c: loaded into lmdbfs (LD_PRELOAD), it makes reads, writes and syncs of the store fail
 * as a bad disk does: no device mapper is needed. The test says which by a file that both map, see
 * struct faults and test_dying_disk.py. What LMDB reads through its map can't be made to fail here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ = 1, WRITE = 2, SYNC = 4 };
enum { DATA = 1, STAGING = 2 };

struct faults {
    _Atomic uint32_t calls; /* which fail; 0: none */
    _Atomic uint32_t files; /* of which files */
    _Atomic uint64_t from;  /* reads and writes that begin here ... */
    _Atomic uint64_t to;    /* ... or above, and below this, in bytes */
    _Atomic uint32_t error;
    _Atomic uint32_t hits; /* how many have failed */
};

static struct faults *faults;

__attribute__((constructor)) static void map_faults(void)
{
    const char *path = getenv("LMDBFS_TEST_FAULTS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    faults = map == MAP_FAILED ? NULL : map;
    close(fd);
}

static unsigned kind_of(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return 0;
    path[n] = '\0';
    const char *name = strrchr(path, '/');
    if (name != NULL && strcmp(name, "/data.mdb") == 0)
        return DATA;
    return strstr(path, "/staging") != NULL ? STAGING : 0;
}

static bool fails(unsigned call, int fd, off_t offset)
{
    if (faults == NULL || !(faults->calls & call))
        return false;
    bool inside =
        call == SYNC || ((uint64_t)offset >= faults->from && (uint64_t)offset < faults->to);
    if (!inside || !(faults->files & kind_of(fd)))
        return false;
    faults->hits++;
    errno = (int)faults->error;
    return true;
}

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    return fails(READ, fd, offset) ? -1 : REAL(pread)(fd, buffer, size, offset);
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
    return fails(READ, fd, offset) ? -1 : REAL(pread64)(fd, buffer, size, offset);
}

ssize_t preadv64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
    return fails(READ, fd, offset) ? -1 : REAL(preadv64)(fd, pieces, count, offset);
}

ssize_t preadv64v2(int fd, const struct iovec *pieces, int count, off64_t offset, int flags)
{
    return fails(READ, fd, offset) ? -1 : REAL(preadv64v2)(fd, pieces, count, offset, flags);
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    return fails(WRITE, fd, offset) ? -1 : REAL(pwrite)(fd, buffer, size, offset);
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
    return fails(WRITE, fd, offset) ? -1 : REAL(pwrite64)(fd, buffer, size, offset);
}

/* LMDB seeks, and writes neighbouring pages at once. */
ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    bool asked = faults != NULL && (faults->calls & WRITE) != 0;
    off_t offset = asked ? lseek(fd, 0, SEEK_CUR) : 0;
    return asked && offset >= 0 && fails(WRITE, fd, offset) ? -1 : REAL(writev)(fd, pieces, count);
}

int fsync(int fd)
{
    return fails(SYNC, fd, 0) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fails(SYNC, fd, 0) ? -1 : REAL(fdatasync)(fd);
}
