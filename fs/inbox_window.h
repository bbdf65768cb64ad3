/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox_window.h: the moment between a name's leading to something new in the store and the
 * kernel's learning of it.
 *
 * A user who renames that name then moves the new record in the store, but the kernel takes along
 * what it believes the name leads to. So requests that rename say where such a name went, and the
 * kernel is told of that place, too. Any thread may call.
 */
#ifndef FS_INBOX_WINDOW_H
#define FS_INBOX_WINDOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* More renamings of one name in such a moment, and one after another at that, nobody can make: each
 * waits for a commit. */
#define WINDOW_PLACES 32

struct window_place {
    uint64_t parent;
    char name[STORE_NAME_MAX + 1];
};

struct window {
    pthread_mutex_t lock; /* guards the rest */
    struct window_place places[WINDOW_PLACES];
    size_t count; /* places that the kernel is to be told of, the first one being told now */
};

void window_init(struct window *window);
void window_destroy(struct window *window);

/* Before the store is changed: the first place. */
void window_open(struct window *window, uint64_t parent, const char *name);

/* The kernel has been told of the first place. True: *place is the next one. */
bool window_next(struct window *window, struct window_place *place);

/* The store wasn't changed after all. */
void window_close(struct window *window);

/* A request has moved a name; or (`exchanged`) two have changed places. */
void window_renamed(struct window *window, uint64_t parent, const char *name, uint64_t new_parent,
                    const char *new_name, bool exchanged);

#endif
