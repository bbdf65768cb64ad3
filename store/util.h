/* SPDX-License-Identifier: BSD-2-Clause */
/* util.h: ownership by cleanup attributes, so that a function needs no goto ladder, and other
 * things that C should have. */
#ifndef STORE_UTIL_H
#define STORE_UTIL_H

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define cleanup(function) __attribute__((cleanup(function)))

static inline void cleanup_fd_p(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
}

static inline void cleanup_free_p(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_dir_p(DIR **dir)
{
    if (*dir != NULL)
        (void)closedir(*dir);
}

static inline void cleanup_unlock_p(pthread_mutex_t **mutex)
{
    if (*mutex != NULL)
        (void)pthread_mutex_unlock(*mutex);
}

#define cleanup_fd cleanup(cleanup_fd_p)
#define cleanup_free cleanup(cleanup_free_p)
#define cleanup_dir cleanup(cleanup_dir_p)

static inline pthread_mutex_t *lock_mutex(pthread_mutex_t *mutex)
{
    if (mutex != NULL)
        (void)pthread_mutex_lock(mutex);
    return mutex;
}

/* Hold `mutex` (NULL: none) until the end of the enclosing block. */
#define with_mutex(mutex)                                                           \
    cleanup(cleanup_unlock_p) pthread_mutex_t *held_mutex __attribute__((unused)) = \
        lock_mutex(mutex)

static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

static inline void *steal_pointer_impl(void *p)
{
    void *stolen = *(void **)p;
    *(void **)p = NULL;
    return stolen;
}

/* Give a pointer away: the variable becomes NULL and its cleanup does nothing. */
#define steal_pointer(p) ((__typeof__(*(p)))steal_pointer_impl(p))

/* pread(2) until `size` bytes are there or the file ends: the number of bytes, or a negative errno.
 */
static inline ssize_t pread_fully(int fd, void *buffer, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)buffer + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* The same for all of it: 0, or a negative errno; -ENODATA if the file ends before. */
static inline int pread_exactly(int fd, void *buffer, size_t size, off_t offset)
{
    ssize_t n = pread_fully(fd, buffer, size, offset);
    if (n < 0)
        return (int)n;
    return (size_t)n < size ? -ENODATA : 0;
}

static inline int64_t clock_ms(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* The monotonic clock in milliseconds. */
static inline int64_t monotonic_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

/* The same, as exact as its tick: a few milliseconds. Cheaper. */
static inline int64_t coarse_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC_COARSE);
}

/*
 * Room for one more in an array of `count` elements of `size` bytes, twice as many when it is full:
 * *array is a pointer of any type, NULL at first, for the caller to free; *room counts elements.
 * -ENOMEM: it is as it was.
 */
static inline int make_room(void *array, size_t *room, size_t count, size_t size)
{
    if (count < *room)
        return 0;
    size_t wanted = *room == 0 ? 16 : *room * 2;
    void *old;
    memcpy(&old, array, sizeof(old));
    void *larger = reallocarray(old, wanted, size);
    if (larger == NULL)
        return -ENOMEM;
    memcpy(array, &larger, sizeof(larger));
    *room = wanted;
    return 0;
}

#define array_length(array) (sizeof(array) / sizeof((array)[0]))

#define MIN(a, b) ((a) < (b) ? (a) : (b))

#endif
