/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_scan.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host.h"
#include "store/util.h"

/* How long a file in a directory that others are still busy with must have been left alone. */
#define QUIET_INSIDE_MS 5000

/* Names that are kept of one look; the oldest are. Bounds the memory where there are millions. */
#define NAMES_MOST 4096

/* Descriptors for looking into a tree. */
#define TREE_FDS 16

/* ------------------------------------------------------------------ readiness -- */

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* How long ago it changed, in milliseconds. A time to come, because somebody has set the clock,
 * says nothing: it is long ago. */
static int64_t age_of(int64_t changed)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age = (nanoseconds(now) - changed) / 1000000;
    return age < -SCAN_QUIET_MS ? INT64_MAX : age;
}

bool scan_is_written(int fd, const char *path)
{
    cleanup_fd int file = openat(fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return file >= 0 && fcntl(file, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;
}

/* ------------------------------------------------------------------------ lists -- */

struct name {
    int64_t changed; /* nanoseconds of the clock */
    char *path;
};

/* The names that changed first, up to `most` (and for a while twice as many). */
struct names {
    struct name *list;
    size_t count, most;
    size_t left_out;
};

static int compare(const void *a, const void *b)
{
    const struct name *one = a, *other = b;
    return one->changed < other->changed ? -1 : one->changed > other->changed;
}

static void sort(struct names *names)
{
    if (names->count > 0) /* there may be no list */
        qsort(names->list, names->count, sizeof(*names->list), compare);
    for (; names->count > names->most; names->left_out++)
        free(names->list[--names->count].path);
}

static int add_name(struct names *names, const char *path, struct timespec changed)
{
    if (names->list == NULL)
        names->list = reallocarray(NULL, names->most * 2, sizeof(*names->list));
    char *copy = names->list == NULL ? NULL : strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    names->list[names->count++] = (struct name){nanoseconds(changed), copy};
    if (names->count == names->most * 2)
        sort(names);
    return 0;
}

static void free_names(struct names *names)
{
    while (names->count > 0)
        free(names->list[--names->count].path);
    free(names->list);
}

#define cleanup_names cleanup(free_names)

/* ------------------------------------------------------------------------ trees -- */

/* A look into a directory of the inbox. */
struct tree {
    size_t prefix; /* of the paths, to be cut */
    int64_t age;   /* of the last change in it, milliseconds */
    bool written;
    struct names *old; /* files that have been left alone for long; NULL: not wanted */
    int error;
};

/* nftw(3) hands nothing through. */
static _Thread_local struct tree *current;

static int look_inside(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    struct tree *tree = current;
    if (type == FTW_NS)
        return 0;
    int64_t age = age_of(nanoseconds(st->st_ctim));
    bool written = S_ISREG(st->st_mode) && scan_is_written(AT_FDCWD, path);
    if (age < tree->age)
        tree->age = age;
    tree->written |= written;
    bool temporary = path[ftw->base] == '.';
    if (tree->old != NULL && !temporary && !S_ISDIR(st->st_mode) && !written &&
        age >= QUIET_INSIDE_MS)
        tree->error = add_name(tree->old, path + tree->prefix, st->st_ctim);
    return tree->error;
}

static int look_into(int inbox, const char *name, struct tree *tree)
{
    char path[PATH_MAX];
    tree->age = INT64_MAX;
    tree->prefix = (size_t)snprintf(path, sizeof(path), "/proc/self/fd/%d/", inbox);
    snprintf(path + tree->prefix, sizeof(path) - tree->prefix, "%s", name);
    current = tree;
    (void)nftw(path, look_inside, TREE_FDS, FTW_PHYS | FTW_MOUNT);
    return tree->error;
}

/* ------------------------------------------------------------------------- scans -- */

bool scan_leaves(const char *name)
{
    return name[0] == '.' && strcmp(name, STORE_CONTROL_NAME) != 0;
}

static int take(struct scan *scan, const char *path)
{
    int r = scan->take(scan->arg, path);
    if (r > 0)
        scan->taken++;
    return r < 0 ? r : 0;
}

static void wait_for(struct scan *scan, int64_t milliseconds)
{
    scan->waiting++;
    if (scan->again < 0 || milliseconds < scan->again)
        scan->again = milliseconds;
}

static int64_t until_quiet(int64_t age)
{
    return age < SCAN_QUIET_MS ? SCAN_QUIET_MS - age : SCAN_QUIET_MS;
}

/* Others are busy in it: what they have been done with for long. */
static int scan_inside(struct scan *scan, const char *name)
{
    cleanup_names struct names old = {.most = scan->most - scan->taken};
    struct tree tree = {.old = &old};
    int r = look_into(scan->inbox, name, &tree);
    sort(&old);
    for (size_t i = 0; i < old.count && r == 0; i++)
        r = take(scan, old.list[i].path);
    return r;
}

static int scan_name(struct scan *scan, const char *name)
{
    struct stat st;
    if (fstatat(scan->inbox, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    struct tree tree = {.age = age_of(nanoseconds(st.st_ctim))};
    int r = 0;
    if (S_ISDIR(st.st_mode))
        r = look_into(scan->inbox, name, &tree);
    else
        tree.written = S_ISREG(st.st_mode) && scan_is_written(scan->inbox, name);
    if (r < 0)
        return r;
    if (!tree.written && tree.age >= SCAN_QUIET_MS)
        return take(scan, name);
    wait_for(scan, until_quiet(tree.age));
    return S_ISDIR(st.st_mode) ? scan_inside(scan, name) : 0;
}

struct listing {
    int inbox;
    struct names *names;
};

static int list_name(void *arg, const char *name)
{
    const struct listing *listing = arg;
    struct stat st;
    if (scan_leaves(name) || fstatat(listing->inbox, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return add_name(listing->names, name, st.st_ctim);
}

int scan_run(struct scan *scan)
{
    scan->again = -1;
    cleanup_names struct names names = {.most = NAMES_MOST};
    struct listing listing = {scan->inbox, &names};
    int r = host_list(scan->inbox, list_name, &listing);
    sort(&names);
    size_t i = 0;
    for (; i < names.count && r == 0 && scan->taken < scan->most; i++)
        r = scan_name(scan, names.list[i].path);
    if (i < names.count || names.left_out > 0)
        scan->again = 0;
    scan->waiting += names.count - i + names.left_out;
    return r;
}
