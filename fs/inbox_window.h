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
#include <stdint.h>

#include "store/store.h"

struct window_place {
    uint64_t parent; /* 0: none */
    char name[STORE_NAME_MAX + 1];
};

struct window {
    pthread_mutex_t lock; /* guards the rest */
    struct window_place now;
    bool moved; /* since it was opened */
};

void window_init(struct window *window);
void window_destroy(struct window *window);

/* Before the store is changed. */
void window_open(struct window *window, uint64_t parent, const char *name);
/* When the kernel has been told. True: it is to be told of *place as well. */
bool window_close(struct window *window, struct window_place *place);

/* A request has moved a name. */
void window_renamed(struct window *window, uint64_t parent, const char *name, uint64_t new_parent,
                    const char *new_name);

#endif
