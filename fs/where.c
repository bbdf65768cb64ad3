/* SPDX-License-Identifier: BSD-2-Clause */
#include "where.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Names of a directory that are looked at: it takes about 1 ms. */
#define NAMES_MOST 4096

struct search {
    uint64_t id;
    char *name;
    unsigned left;
    bool found;
};

static bool compare(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                    const struct store_attr *attr)
{
    (void)type, (void)next, (void)attr;
    struct search *search = arg;
    search->found = id == search->id;
    if (search->found)
        strcpy(search->name, name);
    return !search->found && --search->left > 0;
}

int where_name(struct store *store, uint64_t directory, uint64_t id, char name[STORE_NAME_MAX + 1])
{
    struct search search = {id, name, NAMES_MOST, false};
    int r = store_readdir(store, directory, 0, false, compare, &search);
    return r < 0 ? r : search.found ? 0 : -ENOENT;
}

int where_path(struct store *store, uint64_t directory, char path[PATH_MAX])
{
    /* From the end to the front. */
    size_t at = PATH_MAX - 1;
    path[at] = '\0';
    while (directory != STORE_ROOT_ID) {
        struct store_attr attr;
        char name[STORE_NAME_MAX + 1];
        int r = store_getattr(store, directory, &attr);
        if (r == 0)
            r = where_name(store, attr.parent, directory, name);
        if (r < 0)
            return r;
        size_t length = strlen(name);
        if (at < length + 1)
            return -ENAMETOOLONG;
        if (path[at] != '\0')
            path[--at] = '/';
        at -= length;
        memcpy(path + at, name, length);
        directory = attr.parent;
    }
    if (path[at] == '\0')
        path[--at] = '.';
    memmove(path, path + at, PATH_MAX - at);
    return 0;
}
