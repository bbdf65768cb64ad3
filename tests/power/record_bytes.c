/* SPDX-License-Identifier: BSD-2-Clause */
/* record_bytes.c: calls that change what is in files, and that make it durable. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "record.h"

static ssize_t do_write(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    uint64_t inode = record_inode(fd);
    if (inode == 0 || record_files[fd].directory)
        return syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
    if (offset < 0) {
        offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
        if (syscall(SYS_lseek, fd, 0, SEEK_CUR) < 0 || (fcntl(fd, F_GETFL) & O_APPEND))
            record_die("a write to an unknown place");
        ssize_t n = do_write(fd, parts, count, offset, flags);
        if (n > 0)
            syscall(SYS_lseek, fd, n, SEEK_CUR);
        return n;
    }
    struct entry entry = {.kind = ENTRY_WRITE, .inode = inode, .a = (uint64_t)offset};
    uint64_t number = 0;
    entry.b = record_files[fd].synchronous || (flags & (RWF_DSYNC | RWF_SYNC));
    for (int i = 0; i < count; i++)
        entry.length += parts[i].iov_len;
    if (entry.b)
        number = record_note(entry, parts, count);
    ssize_t n = syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
    if (entry.b && n != (ssize_t)entry.length)
        record_die("a synchronous write fell short");
    if (entry.b) {
        record_note((struct entry){.kind = ENTRY_WRITTEN, .inode = inode, .a = number}, NULL, 0);
    } else if (n > 0) {
        entry.length = (uint64_t)n;
        record_note(entry, parts, count);
    }
    return n;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return do_write(fd, parts, count, offset, flags);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return do_write(fd, parts, count, offset, 0);
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    struct iovec part = {(void *)(uintptr_t)buffer, size};
    return do_write(fd, &part, 1, offset, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return record_inode(fd) == 0 ? syscall(SYS_writev, fd, parts, count)
                                 : do_write(fd, parts, count, -1, 0);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    struct iovec part = {(void *)(uintptr_t)buffer, size};
    return record_inode(fd) == 0 ? syscall(SYS_write, fd, buffer, size)
                                 : do_write(fd, &part, 1, -1, 0);
}

/* Bytes came into a file without passing through our hands. */
static void note_bytes(int fd, off_t offset, size_t size)
{
    void *bytes = malloc(size);
    if (bytes == NULL || syscall(SYS_pread64, fd, bytes, size, offset) != (long)size)
        record_die("cannot read what was copied");
    struct iovec part = {bytes, size};
    struct entry entry = {
        .kind = ENTRY_WRITE, .inode = record_inode(fd), .a = (uint64_t)offset, .length = size};
    record_note(entry, &part, 1);
    free(bytes);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags)
{
    if (record_inode(out) != 0 && out_at == NULL)
        record_die("a copy to an unknown place");
    off_t place = out_at == NULL ? 0 : *out_at;
    ssize_t n = syscall(SYS_copy_file_range, in, in_at, out, out_at, size, flags);
    if (n > 0 && record_inode(out) != 0)
        note_bytes(out, place, (size_t)n);
    return n;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    int r = (int)syscall(SYS_ioctl, fd, request, argument);
    const struct file_clone_range *range = argument;
    if (r == 0 && request == FICLONERANGE && record_inode(fd) != 0)
        note_bytes(fd, (off_t)range->dest_offset, range->src_length);
    return r;
}

int ftruncate(int fd, off_t size)
{
    bool on = record_enter();
    int r = (int)syscall(SYS_ftruncate, fd, size);
    if (r == 0 && record_inode(fd) != 0)
        record_note_locked(
            (struct entry){.kind = ENTRY_TRUNCATE, .inode = record_inode(fd), .a = (uint64_t)size},
            NULL, 0);
    record_leave(on);
    return r;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    int r = (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (r < 0 || record_inode(fd) == 0)
        return r;
    uint64_t at = (uint64_t)offset, size = (uint64_t)length;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        record_note(
            (struct entry){.kind = ENTRY_ZERO, .inode = record_inode(fd), .a = at, .b = size}, NULL,
            0);
    else if (mode & ~FALLOC_FL_KEEP_SIZE)
        record_die("an unknown way to allocate");
    if (!(mode & FALLOC_FL_KEEP_SIZE))
        record_note((struct entry){.kind = ENTRY_EXTEND, .inode = record_inode(fd), .a = at + size},
                    NULL, 0);
    return r;
}

int futimens(int fd, const struct timespec times[2])
{
    int r = (int)syscall(SYS_utimensat, fd, NULL, times, 0);
    struct stat st;
    if (r == 0 && record_inode(fd) != 0 && fstat(fd, &st) == 0) {
        uint64_t ns = (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
        record_note((struct entry){.kind = ENTRY_TIMES, .inode = record_inode(fd), .a = ns}, NULL,
                    0);
    }
    return r;
}

/* -------------------------------------------------------------------- syncs -- */

static int do_sync(int fd, long call, bool all, bool data_only)
{
    uint64_t inode = all ? 0 : record_inode(fd), number = 0;
    bool ours = record_inode(fd) != 0;
    if (ours)
        number = record_note((struct entry){.kind = ENTRY_SYNC, .inode = inode, .a = data_only},
                             NULL, 0);
    int r = (int)syscall(call, fd);
    if (ours && r == 0)
        record_note((struct entry){.kind = ENTRY_SYNCED, .inode = inode, .a = number}, NULL, 0);
    return r;
}

int fsync(int fd)
{
    return do_sync(fd, SYS_fsync, false, false);
}

int fdatasync(int fd)
{
    return do_sync(fd, SYS_fdatasync, false, true);
}

int syncfs(int fd)
{
    return do_sync(fd, SYS_syncfs, true, false);
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset) SAME_AS(pwrite);
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) SAME_AS(pwritev);
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
    SAME_AS(pwritev2);
int ftruncate64(int fd, off64_t size) SAME_AS(ftruncate);
int fallocate64(int fd, int mode, off64_t offset, off64_t length) SAME_AS(fallocate);
