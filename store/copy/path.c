/* SPDX-License-Identifier: BSD-2-Clause */
#include "path.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "observe.h"

/* The next name of the path at *rest, which moves on: 1, 0 at the end. */
static int next_name(const char **rest, char name[STORE_NAME_MAX + 1])
{
    size_t length;
    do {
        *rest += strspn(*rest, "/");
        length = strcspn(*rest, "/");
        if (length == 0)
            return 0;
        if (length > STORE_NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, *rest, length);
        name[length] = '\0';
        *rest += length;
    } while (strcmp(name, ".") == 0);
    return strcmp(name, "..") == 0 ? -EINVAL : 1;
}

/* `rest` is what comes behind the name that is wrong. */
static int fail(const struct store_observer *observer, const char *path, const char *rest,
                int error)
{
    int length = (int)(rest - path);
    switch (-error) {
    case ENOENT:
        observe_message(observer, path, "there is no \"%.*s\" in the store", length, path);
        break;
    case ENOTDIR:
        observe_message(observer, path, "\"%.*s\" is not a directory in the store", length, path);
        break;
    case EPERM:
        observe_message(observer, path, "\"%s\" is reserved in a store", STORE_CONTROL_NAME);
        break;
    case ENAMETOOLONG:
        observe_message(observer, path, "a name in the store has at most %d bytes", STORE_NAME_MAX);
        break;
    case EINVAL:
        observe_message(observer, path, "a path in the store can't have \"..\" in it");
        break;
    default:
        observe_message(observer, path, "%s", strerror(-error));
    }
    return error;
}

static bool is_reserved(uint64_t parent, const char *name)
{
    return parent == STORE_ROOT_ID && strcmp(name, STORE_CONTROL_NAME) == 0;
}

/* On the way along a path. */
struct position {
    struct store_attr attr;        /* of what `name` leads to */
    char name[STORE_NAME_MAX + 1]; /* "" at the start */
    uint64_t parent;               /* where it was found */
    bool made;
};

/* Go on to what `position->name` leads to. */
static int step(struct store *store, bool make, struct position *position)
{
    position->parent = position->attr.id;
    position->made = false;
    if (is_reserved(position->parent, position->name))
        return -EPERM;
    if (!S_ISDIR(position->attr.mode))
        return -ENOTDIR;
    int r = store_lookup(store, position->parent, position->name, &position->attr);
    if (r != -ENOENT || !make)
        return r;
    const struct store_owner owner = {0755, geteuid(), getegid()};
    position->made = true;
    return store_mkdir(store, position->parent, position->name, &owner, &position->attr);
}

static int follow(struct store *store, const char *path, const struct store_observer *observer,
                  bool make, struct position *position)
{
    const char *whole = path == NULL ? "" : path, *rest = whole, *before = whole;
    *position = (struct position){.parent = STORE_ROOT_ID};
    int r = store_getattr(store, STORE_ROOT_ID, &position->attr);
    while (r == 0) {
        char name[STORE_NAME_MAX + 1];
        before = rest;
        r = next_name(&rest, name);
        if (r == 0)
            return make && !S_ISDIR(position->attr.mode) ? fail(observer, whole, rest, -ENOTDIR)
                                                         : 0;
        if (r > 0) {
            strcpy(position->name, name);
            r = step(store, make, position);
        }
    }
    return fail(observer, whole, r == -ENOTDIR ? before : rest, r);
}

int path_find(struct store *store, const char *path, const struct store_observer *observer,
              struct store_attr *attr, uint64_t *parent, char name[STORE_NAME_MAX + 1])
{
    struct position position;
    int r = follow(store, path, observer, false, &position);
    *attr = position.attr;
    *parent = position.parent;
    memcpy(name, position.name, sizeof(position.name));
    return r;
}

int path_make(struct store *store, const char *path, const struct store_observer *observer,
              struct store_attr *attr, bool *made)
{
    struct position position;
    int r = follow(store, path, observer, true, &position);
    *attr = position.attr;
    *made = position.made;
    return r;
}
