/* SPDX-License-Identifier: BSD-2-Clause */
#include "staged.h"

#include <stdatomic.h>
#include <string.h>

#include "util.h"

#define BUCKETS 1024

struct staged {
    size_t most;
    pthread_mutex_t lock;
    _Atomic size_t bytes; /* of room */
    struct staged_file *buckets[BUCKETS];
};

struct staged *staged_new(size_t most)
{
    struct staged *staged = calloc(1, sizeof(*staged));
    if (staged != NULL) {
        staged->most = most;
        pthread_mutex_init(&staged->lock, NULL);
    }
    return staged;
}

void staged_free(struct staged *staged)
{
    if (staged == NULL)
        return;
    for (struct staged_file *file; (file = staged_first(staged)) != NULL;)
        staged_remove(staged, file->id);
    pthread_mutex_destroy(&staged->lock);
    free(staged);
}

pthread_mutex_t *staged_lock(struct staged *staged)
{
    return &staged->lock;
}

static struct staged_file **place_of(struct staged *staged, uint64_t id)
{
    struct staged_file **at = &staged->buckets[id % BUCKETS];
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

struct staged_file *staged_find(struct staged *staged, uint64_t id)
{
    return *place_of(staged, id);
}

struct staged_file *staged_add(struct staged *staged, uint64_t id)
{
    struct staged_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return NULL;
    file->id = id;
    clock_gettime(CLOCK_REALTIME, &file->atime);
    file->mtime = file->ctime = file->atime;
    *place_of(staged, id) = file;
    return file;
}

void staged_remove(struct staged *staged, uint64_t id)
{
    struct staged_file **at = place_of(staged, id), *file = *at;
    if (file == NULL)
        return;
    *at = file->next;
    staged->bytes -= file->room;
    free(file->bytes);
    free(file);
}

/* Twice as much as before, so that small writes don't copy all the time. */
static size_t room_for(const struct staged_file *file, size_t size)
{
    size_t room = file->room * 2 > size ? file->room * 2 : size;
    return room > STAGED_FILE_MOST ? STAGED_FILE_MOST : room;
}

bool staged_resize(struct staged *staged, struct staged_file *file, uint64_t size)
{
    if (size > STAGED_FILE_MOST)
        return false;
    if (size > file->room) {
        size_t room = room_for(file, size);
        if (staged->bytes + (room - file->room) > staged->most)
            return false;
        char *bytes = realloc(file->bytes, room);
        if (bytes == NULL)
            return false;
        staged->bytes += room - file->room;
        file->bytes = bytes;
        file->room = room;
    }
    if (size > file->size)
        memset(file->bytes + file->size, 0, size - file->size);
    file->size = size;
    return true;
}

struct staged_file *staged_first(struct staged *staged)
{
    for (size_t i = 0; i < BUCKETS; i++)
        if (staged->buckets[i] != NULL)
            return staged->buckets[i];
    return NULL;
}

size_t staged_bytes(const struct staged *staged)
{
    return staged->bytes;
}

size_t staged_list(struct staged *staged, uint64_t *ids, size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct staged_file *file = staged->buckets[i]; file != NULL;
             file = file->next, count++)
            if (count < most)
                ids[count] = file->id;
    return count;
}
