/* SPDX-License-Identifier: BSD-2-Clause */
#include "walk.h"

#include <fcntl.h>
#include <string.h>

#include "entry.h"
#include "util.h"

static struct walk_dir *new_dir(struct walk_dir *parent, const char *name)
{
    size_t length = strlen(name) + 1;
    struct walk_dir *dir = calloc(1, sizeof(*dir) + length);
    if (dir == NULL)
        return NULL;
    memcpy(dir->name, name, length);
    dir->parent = parent == NULL ? NULL : walk_hold(parent);
    dir->references = 1;
    dir->unfinished = 1;
    dir->fd = -1;
    return dir;
}

struct walk_dir *walk_hold(struct walk_dir *dir)
{
    dir->references++;
    return dir;
}

/* Without recursion: a tree may be deeper than the stack. */
void walk_release(struct walk_dir *dir)
{
    while (dir != NULL && --dir->references == 0) {
        struct walk_dir *parent = dir->parent;
        cleanup_fd_p(&dir->fd);
        free(dir);
        dir = parent;
    }
}

int walk_start(struct walk *walk, const char *path, int fd)
{
    *walk = (struct walk){.path = path};
    walk->last = &walk->first;
    walk->top = new_dir(NULL, "");
    if (walk->top == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    walk->top->fd = fd;
    walk->first = walk_hold(walk->top);
    walk->last = &walk->first->next;
    return 0;
}

void walk_end(struct walk *walk)
{
    for (struct walk_dir *dir; walk->top != NULL && (dir = walk_next(walk)) != NULL;)
        walk_release(dir);
    for (size_t i = 0; i < array_length(walk->recent); i++)
        walk_release(walk->recent[i]);
    walk_release(walk->top);
    *walk = (struct walk){0};
}

struct walk_dir *walk_add(struct walk *walk, struct walk_dir *parent, const char *name, bool soon)
{
    struct walk_dir *dir = new_dir(parent, name);
    if (dir == NULL)
        return NULL;
    parent->unfinished++;
    struct walk_dir **at = soon ? &walk->first : walk->last;
    dir->next = *at;
    *at = dir;
    if (dir->next == NULL)
        walk->last = &dir->next;
    return dir;
}

struct walk_dir *walk_next(struct walk *walk)
{
    struct walk_dir *dir = walk->first;
    if (dir == NULL)
        return NULL;
    walk->first = dir->next;
    if (walk->first == NULL)
        walk->last = &walk->first;
    dir->next = NULL;
    return dir;
}

/* ------------------------------------------------------------ descriptors -- */

/* Keep the descriptor with the directory, for as long as WALK_RECENT others don't come. */
static void keep(struct walk *walk, struct walk_dir *dir, int fd)
{
    struct walk_dir **slot = &walk->recent[walk->turn++ % WALK_RECENT];
    if (*slot != NULL) {
        cleanup_fd_p(&(*slot)->fd);
        (*slot)->fd = -1;
        walk_release(*slot);
    }
    *slot = walk_hold(dir);
    dir->fd = fd;
}

/* Down from `from`, which is open. The directory and its parent (where the next ones of a level are
 * likely to be) are kept open. */
static int descend(struct walk *walk, struct walk_dir *from, struct walk_dir *dir)
{
    int fd = from->fd;
    cleanup_fd int owned = -1;
    while (from != dir) {
        from = from->below;
        int next =
            openat(fd, from->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (next < 0)
            return -errno;
        cleanup_fd_p(&owned);
        owned = -1;
        fd = next;
        if (from == dir || from == dir->parent)
            keep(walk, from, fd);
        else
            owned = fd;
    }
    return 0;
}

int walk_open(struct walk *walk, struct walk_dir *dir)
{
    struct walk_dir *from = dir;
    for (; from->fd < 0; from = from->parent)
        from->parent->below = from;
    int r = descend(walk, from, dir);
    if (r < 0)
        return r;
    int fd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* ------------------------------------------------------------------ paths -- */

/* Writes `text` so that it ends at `end`; returns its start. */
static char *write_before(char *end, const char *text)
{
    size_t length = strlen(text);
    return memcpy(end - length, text, length);
}

char *walk_path(const struct walk *walk, const struct walk_dir *dir, const char *name)
{
    size_t length = strlen(walk->path) + 1 + (name == NULL ? 0 : strlen(name) + 1);
    for (const struct walk_dir *above = dir; above->parent != NULL; above = above->parent)
        length += strlen(above->name) + 1;
    char *path = malloc(length);
    if (path == NULL)
        return NULL;

    size_t front = strlen(walk->path);
    bool slash = front > 0 && walk->path[front - 1] == '/';
    char *end = path + length - 1;
    *end = '\0';
    if (name != NULL) {
        end = write_before(end, name);
        end = write_before(end, "/");
    }
    for (const struct walk_dir *above = dir; above->parent != NULL; above = above->parent) {
        end = write_before(end, above->name);
        end = write_before(end, "/");
    }
    memcpy(path, walk->path, front);
    if (slash && *end == '/')
        memmove(path + front, end + 1, strlen(end));
    return path;
}

/* ------------------------------------------------------------------ names -- */

static int add_name(struct walk_names *names, const char *name, unsigned char type)
{
    size_t size = strlen(name) + 1;
    if (names->count == names->room) {
        size_t room = names->room == 0 ? 256 : names->room * 2;
        void *larger = reallocarray(names->list, room, sizeof(*names->list));
        if (larger == NULL)
            return -ENOMEM;
        names->list = larger;
        names->room = room;
    }
    if (names->length + size > names->text_room) {
        size_t room = (names->text_room + size) * 2;
        char *larger = realloc(names->text, room);
        if (larger == NULL)
            return -ENOMEM;
        names->text = larger;
        names->text_room = room;
    }
    names->list[names->count++] =
        (struct walk_name){entry_place(name, size - 1), names->length, type};
    memcpy(names->text + names->length, name, size);
    names->length += size;
    return 0;
}

static int compare(const void *a, const void *b, void *text)
{
    const struct walk_name *one = a, *other = b;
    if (one->place != other->place)
        return one->place < other->place ? -1 : 1;
    return strcmp((char *)text + one->offset, (char *)text + other->offset);
}

int walk_list(int fd, struct walk_names *names)
{
    names->count = names->length = 0;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        int error = errno;
        cleanup_fd_p(&copy);
        return -error;
    }
    rewinddir(
        dir); /* the position is shared with the descriptor, which may have been read before */
    int r = 0;
    while (r == 0) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            r = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = add_name(names, entry->d_name, entry->d_type);
    }
    if (r == 0 && names->count > 0)
        qsort_r(names->list, names->count, sizeof(*names->list), compare, names->text);
    return r;
}

void walk_names_free(struct walk_names *names)
{
    free(names->list);
    free(names->text);
    *names = (struct walk_names){0};
}
