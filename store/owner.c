/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "opening.h"

#define OWNER_TEXT_MAX 300

/* "PURPOSE (PID)", as far as the file tells. */
static void describe_owner(int fd, char description[OWNER_TEXT_MAX])
{
    char text[400] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    char *end = n > 0 ? strchr(text, '\n') : NULL;
    if (end == NULL) {
        snprintf(description, OWNER_TEXT_MAX, "by another process");
        return;
    }
    *end = '\0';
    char *purpose = end + 1;
    purpose[strcspn(purpose, "\n")] = '\0';
    snprintf(description, OWNER_TEXT_MAX, "%.200s (%.40s)", purpose, text);
}

static int refuse_owned(const struct opening *opening, int fd)
{
    char description[OWNER_TEXT_MAX];
    describe_owner(fd, description);
    return refuse(opening, -EBUSY, "the store is in use: %s; end that first", description);
}

bool store_in_use(struct store *store, char by[STORE_WHY_MAX])
{
    if (!store->read_only)
        return false;
    cleanup_fd int fd = openat(store->dir_fd, OWNER_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    /* Who wants to own the store in this instant tries again: see OWNER_BUSY_MS. */
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return false;
    describe_owner(fd, by);
    return true;
}

/*
 * A process that ends clears the file before it lets go of the lock, and umount(8) returns a
 * moment before it even begins to. So who finds a lock with a name on it waits for that moment, and
 * who finds one without waits for the end.
 */
#define OWNER_POLL_MS 5
#define OWNER_BUSY_MS 200
#define OWNER_CLOSING_MS 60000

static int lock_owner_file(int fd)
{
    for (int waited = 0;; waited += OWNER_POLL_MS) {
        struct stat st;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        bool closing = fstat(fd, &st) == 0 && st.st_size == 0;
        if (waited >= (closing ? OWNER_CLOSING_MS : OWNER_BUSY_MS))
            return -EWOULDBLOCK;
        struct timespec pause = {.tv_nsec = OWNER_POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

int owner_take(const struct opening *opening, int dir_fd, int *owner_fd)
{
    const char *purpose = opening->options->purpose;
    cleanup_fd int fd = openat(dir_fd, OWNER_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return refuse(opening, -errno, "cannot write to the store (" OWNER_FILE "): %s",
                      strerror(errno));
    int r = lock_owner_file(fd);
    if (r < 0)
        return r == -EWOULDBLOCK
                   ? refuse_owned(opening, fd)
                   : refuse(opening, r, "cannot lock " OWNER_FILE ": %s", strerror(-r));
    if (ftruncate(fd, 0) < 0 ||
        dprintf(fd, "pid %ld\n%s\n", (long)getpid(), purpose == NULL ? "in use" : purpose) < 0)
        return refuse(opening, -errno, "cannot write " OWNER_FILE ": %s", strerror(errno));
    *owner_fd = steal_fd(&fd);
    return 0;
}

void owner_leaving(int owner_fd)
{
    if (owner_fd >= 0)
        (void)!ftruncate(owner_fd, 0);
}
