/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_arrivals.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "host.h"
#include "log.h"
#include "store/util.h"

/* How long something that may be written in place must have been left alone. Programs that write a
 * file and set its mode and times by name afterwards do so at once. Milliseconds. */
#define QUIET_MS 1000
/* The same for a file in a directory that others are still busy with. */
#define QUIET_INSIDE_MS 5000

/* What is looked at often although nothing gets complete must not take much of the machine: a pause
 * is so many times as long as the look. */
#define PAUSE_TIMES 4
#define PAUSE_LEAST_MS 100

/* Names that are kept of one look; the oldest are. Bounds the memory where there are millions. */
#define NAMES_MOST 4096

/* Descriptors for looking into a tree. */
#define TREE_FDS 16

struct arrivals {
    int inbox;
    int inotify;
    int64_t scan_at; /* coarse_ms(); -1: when something happens */
    atomic_size_t waiting;

    /* Events that were read; those before `at` are done. */
    size_t length, at;
    _Alignas(struct inotify_event) char events[8192];
};

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
    return age < -QUIET_MS ? INT64_MAX : age;
}

/* Whether somebody has the file open for writing. Where there are no leases, nobody knows. */
static bool is_written(int fd, const char *path)
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
    (void)ftw;
    struct tree *tree = current;
    if (type == FTW_NS)
        return 0;
    int64_t age = age_of(nanoseconds(st->st_ctim));
    bool written = S_ISREG(st->st_mode) && is_written(AT_FDCWD, path);
    if (age < tree->age)
        tree->age = age;
    tree->written |= written;
    if (tree->old != NULL && !S_ISDIR(st->st_mode) && !written && age >= QUIET_INSIDE_MS)
        tree->error = add_name(tree->old, path + tree->prefix, st->st_ctim);
    return tree->error;
}

static int look_into(const struct arrivals *arrivals, const char *name, struct tree *tree)
{
    char path[PATH_MAX];
    tree->age = INT64_MAX;
    tree->prefix = (size_t)snprintf(path, sizeof(path), "/proc/self/fd/%d/", arrivals->inbox);
    snprintf(path + tree->prefix, sizeof(path) - tree->prefix, "%s", name);
    current = tree;
    (void)nftw(path, look_inside, TREE_FDS, FTW_PHYS | FTW_MOUNT);
    return tree->error;
}

/* ------------------------------------------------------------------------- scans -- */

struct scan {
    struct arrivals *arrivals;
    unsigned most, taken;
    arrivals_fn *take;
    void *arg;
    size_t waiting;
    int64_t again; /* milliseconds until something may be complete; -1: nothing is waited for */
};

static bool is_left_alone(const char *name)
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
    return age < QUIET_MS ? QUIET_MS - age : QUIET_MS;
}

/* Others are busy in it: what they have been done with for long. */
static int scan_inside(struct scan *scan, const char *name)
{
    cleanup_names struct names old = {.most = scan->most - scan->taken};
    struct tree tree = {.old = &old};
    int r = look_into(scan->arrivals, name, &tree);
    sort(&old);
    for (size_t i = 0; i < old.count && r == 0; i++)
        r = take(scan, old.list[i].path);
    return r;
}

static int scan_name(struct scan *scan, const char *name)
{
    struct stat st;
    if (fstatat(scan->arrivals->inbox, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    struct tree tree = {.age = age_of(nanoseconds(st.st_ctim))};
    int r = 0;
    if (S_ISDIR(st.st_mode))
        r = look_into(scan->arrivals, name, &tree);
    else
        tree.written = S_ISREG(st.st_mode) && is_written(scan->arrivals->inbox, name);
    if (r < 0)
        return r;
    if (S_ISLNK(st.st_mode) || (!tree.written && tree.age >= QUIET_MS))
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
    if (is_left_alone(name) || fstatat(listing->inbox, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return add_name(listing->names, name, st.st_ctim);
}

static int scan_names(struct scan *scan)
{
    cleanup_names struct names names = {.most = NAMES_MOST};
    struct listing listing = {scan->arrivals->inbox, &names};
    int r = host_list(scan->arrivals->inbox, list_name, &listing);
    sort(&names);
    size_t i = 0;
    for (; i < names.count && r == 0 && scan->taken < scan->most; i++)
        r = scan_name(scan, names.list[i].path);
    if (i < names.count || names.left_out > 0)
        scan->again = 0;
    scan->waiting += names.count - i + names.left_out;
    return r;
}

static int scan_all(struct scan *scan)
{
    struct arrivals *arrivals = scan->arrivals;
    int64_t begin = coarse_ms();
    scan->again = -1;
    scan->waiting = 0;
    int r = scan_names(scan);
    int64_t end = coarse_ms(), pause = (end - begin) * PAUSE_TIMES;
    if (pause < PAUSE_LEAST_MS)
        pause = PAUSE_LEAST_MS;
    if (scan->taken > 0 && scan->again == 0)
        pause = 0; /* there is more to be taken at once */
    else if (pause < scan->again)
        pause = scan->again;
    arrivals->scan_at = r < 0 ? end + QUIET_MS : scan->again < 0 ? -1 : end + pause;
    atomic_store(&arrivals->waiting, scan->waiting);
    return r;
}

/* ------------------------------------------------------------------------ events -- */

static void scan_soon(struct arrivals *arrivals, int64_t milliseconds)
{
    int64_t at = coarse_ms() + milliseconds;
    if (arrivals->scan_at < 0 || at < arrivals->scan_at)
        arrivals->scan_at = at;
}

/* A name was made: by link(2) or symlink(2), or by who is going to fill what it leads to. */
static bool is_whole(const struct arrivals *arrivals, const char *name)
{
    struct stat st;
    if (fstatat(arrivals->inbox, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    return S_ISLNK(st.st_mode) ||
           (S_ISREG(st.st_mode) && st.st_nlink > 1 && !is_written(arrivals->inbox, name));
}

static int handle(struct scan *scan, const struct inotify_event *event)
{
    struct arrivals *arrivals = scan->arrivals;
    if (event->mask & IN_Q_OVERFLOW)
        scan_soon(arrivals, 0);
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF))
        log_line(LOG_WARNING, "inbox: its directory was %s; put it back and mount again",
                 event->mask & IN_MOVE_SELF ? "moved away" : "removed");
    if (event->len == 0 || is_left_alone(event->name))
        return 0;
    if ((event->mask & IN_MOVED_TO) ||
        ((event->mask & IN_CREATE) && is_whole(arrivals, event->name)))
        return take(scan, event->name);
    scan_soon(arrivals, QUIET_MS);
    return 0;
}

static int handle_events(struct scan *scan)
{
    struct arrivals *arrivals = scan->arrivals;
    int r = 0;
    while (r == 0 && scan->taken < scan->most) {
        if (arrivals->at == arrivals->length) {
            ssize_t n = read(arrivals->inotify, arrivals->events, sizeof(arrivals->events));
            arrivals->at = 0;
            arrivals->length = n < 0 ? 0 : (size_t)n;
            if (n <= 0)
                break;
        }
        const struct inotify_event *event = (const void *)(arrivals->events + arrivals->at);
        arrivals->at += sizeof(*event) + event->len;
        r = handle(scan, event);
        if (r < 0) /* what the event was about is still there */
            scan_soon(arrivals, QUIET_MS);
    }
    return r;
}

int arrivals_next(struct arrivals *arrivals, unsigned most, arrivals_fn *take_one, void *arg)
{
    struct scan scan = {.arrivals = arrivals, .most = most, .take = take_one, .arg = arg};
    int r = handle_events(&scan);
    bool due = arrivals->scan_at >= 0 && arrivals->scan_at <= coarse_ms();
    if (r == 0 && due && scan.taken < most)
        r = scan_all(&scan);
    return r < 0 ? r : (int)scan.taken;
}

/* -------------------------------------------------------------------------- life -- */

int arrivals_fd(const struct arrivals *arrivals)
{
    return arrivals->inotify;
}

int arrivals_wait(const struct arrivals *arrivals)
{
    if (arrivals->at < arrivals->length)
        return 0;
    if (arrivals->scan_at < 0)
        return -1;
    int64_t wait = arrivals->scan_at - coarse_ms();
    return wait < 0 ? 0 : (int)wait + 1;
}

size_t arrivals_waiting(const struct arrivals *arrivals)
{
    return atomic_load(&arrivals->waiting);
}

int arrivals_open(int inbox, struct arrivals **out, char why[STORE_WHY_MAX])
{
    struct arrivals *arrivals = calloc(1, sizeof(*arrivals));
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", inbox);
    int r = arrivals == NULL ? -ENOMEM : 0;
    if (r == 0) {
        arrivals->inbox = inbox; /* looked through once at the start */
        arrivals->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (arrivals->inotify < 0 ||
            inotify_add_watch(arrivals->inotify, path,
                              IN_MOVED_TO | IN_CREATE | IN_CLOSE_WRITE | IN_DELETE_SELF |
                                  IN_MOVE_SELF | IN_ONLYDIR) < 0)
            r = -errno;
    }
    if (r < 0) {
        snprintf(why, STORE_WHY_MAX, "can't watch the inbox: %s", strerror(-r));
        arrivals_free(arrivals);
        return r;
    }
    *out = arrivals;
    return 0;
}

void arrivals_free(struct arrivals *arrivals)
{
    if (arrivals == NULL)
        return;
    cleanup_fd_p(&arrivals->inotify);
    free(arrivals);
}
