/* SPDX-License-Identifier: BSD-2-Clause */
#include "own.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "store/util.h"

/* How the kernel's FUSE writes a handle (fs/fuse/inode.c, fuse_encode_fh): three words of 32 bits,
 * the node id's upper and lower half and its generation, which is always 0 here. */
#define HANDLE_TYPE 0x81
#define HANDLE_WORDS 3

struct handle {
    struct file_handle head;
    uint32_t words[HANDLE_WORDS];
};

#define with_read_lock(rwlock)                                            \
    cleanup(unlock) pthread_rwlock_t *held_lock __attribute__((unused)) = \
        (pthread_rwlock_rdlock(rwlock), (rwlock))
#define with_write_lock(rwlock)                                           \
    cleanup(unlock) pthread_rwlock_t *held_lock __attribute__((unused)) = \
        (pthread_rwlock_wrlock(rwlock), (rwlock))

static void unlock(pthread_rwlock_t **lock)
{
    pthread_rwlock_unlock(*lock);
}

void own_init(struct own *own)
{
    pthread_rwlock_init(&own->lock, NULL);
    own->copy = own->root = -1;
}

/* A handle can't be opened by way of an O_PATH descriptor, which is what a copy is. */
static int open_root(int copy, dev_t device, int *root)
{
    cleanup_fd int fd = openat(copy, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_dev != device)
        return -ENODEV;
    *root = steal_fd(&fd);
    return 0;
}

int own_open(struct own *own, const char *path, dev_t device)
{
    cleanup_fd int copy =
        (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (copy < 0)
        return -errno;
    int root = -1;
    int r = open_root(copy, device, &root);
    if (r < 0)
        return r;
    with_write_lock(&own->lock);
    own->copy = steal_fd(&copy);
    own->root = root;
    return 0;
}

void own_close(struct own *own)
{
    cleanup_fd int copy = -1, root = -1;
    with_write_lock(&own->lock);
    copy = steal_fd(&own->copy);
    root = steal_fd(&own->root);
}

int own_node(struct own *own, uint64_t id, int flags)
{
    struct handle handle = {
        .head = {.handle_bytes = sizeof(handle.words), .handle_type = HANDLE_TYPE},
        .words = {(uint32_t)(id >> 32), (uint32_t)id, 0},
    };
    with_read_lock(&own->lock);
    if (own->root < 0)
        return -ENODEV;
    int fd = open_by_handle_at(own->root, &handle.head, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

uint64_t own_node_of_handle(int type, const unsigned char *bytes, size_t size)
{
    uint32_t words[HANDLE_WORDS];
    if (type != HANDLE_TYPE || size < sizeof(words))
        return 0;
    memcpy(words, bytes, sizeof(words));
    return (uint64_t)words[0] << 32 | words[1];
}

int own_directory(struct own *own, const char *path)
{
    with_read_lock(&own->lock);
    if (own->root < 0)
        return -ENODEV;
    int fd = openat(own->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
