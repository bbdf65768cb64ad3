/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_arrivals.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "inbox_scan.h"
#include "inbox_told.h"
#include "log.h"
#include "store/util.h"

/* What is looked at often although nothing gets complete must not take much of the machine: a pause
 * is so many times as long as the look. */
#define PAUSE_TIMES 4
#define PAUSE_LEAST_MS 100

/* Names in an order that we remember, unless the kernel keeps more events than it does by default.
 */
#define TOLD_MOST 16384

struct arrivals {
    int inbox;
    int inotify;
    int64_t scan_at;   /* coarse_ms(); -1: when something happens */
    struct told *told; /* names of what is complete */
    atomic_size_t waiting;
};

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
           (S_ISREG(st.st_mode) && st.st_nlink > 1 && !scan_is_written(arrivals->inbox, name));
}

static int hear(struct arrivals *arrivals, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW)
        scan_soon(arrivals, 0);
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF))
        log_line(LOG_WARNING, "inbox: its directory was %s; put it back and mount again",
                 event->mask & IN_MOVE_SELF ? "moved away" : "removed");
    if (event->len == 0 || scan_leaves(event->name))
        return 0;
    if ((event->mask & IN_MOVED_TO) ||
        ((event->mask & IN_CREATE) && is_whole(arrivals, event->name)))
        return told_add(arrivals->told, event->name);
    scan_soon(arrivals, SCAN_QUIET_MS);
    return 0;
}

static int listen(struct arrivals *arrivals)
{
    _Alignas(struct inotify_event) char buffer[8192];
    ssize_t length;
    int r = 0;
    while (r == 0 && told_count(arrivals->told) < TOLD_MOST &&
           (length = read(arrivals->inotify, buffer, sizeof(buffer))) > 0) {
        for (ssize_t at = 0; at < length && r == 0;) {
            const struct inotify_event *event = (const void *)(buffer + at);
            at += (ssize_t)(sizeof(*event) + event->len);
            r = hear(arrivals, event);
        }
    }
    return r;
}

/*
 * The name may have got something else meanwhile, which has arrived later than others that we were
 * told of since: it is held until its turn comes with them. The kernel tells of a renaming before
 * anybody can rename what is there, so when we have it, we know. If there is something by that name
 * when the turn comes, that has arrived later, and what was held has the right place already.
 *
 * 1: taken; 0: not, or not yet.
 */
static int take_told(struct arrivals *arrivals, const char *name, int held,
                     const struct arrivals_taker *taker)
{
    int unit = taker->take(taker->arg, name);
    if (unit == 0 && held > 0)
        return taker->again(taker->arg, held);
    int r = unit > 0 ? listen(arrivals) : 0;
    if (unit <= 0 || r < 0)
        return unit < 0 ? unit : r;
    if (!told_has(arrivals->told, name))
        return 1;
    told_hold(arrivals->told, name, unit);
    return 0;
}

/* Too many: those that are held have their turn too early. Not before so many times `most`. */
#define MOST_TIMES 4

static int take_all_told(struct arrivals *arrivals, unsigned most,
                         const struct arrivals_taker *taker)
{
    unsigned taken = 0, tries = most * MOST_TIMES;
    int r = listen(arrivals), held;
    while (r >= 0 && taken < most && tries-- > 0) {
        cleanup_free char *name = told_next(arrivals->told, &held);
        if (name == NULL)
            break;
        r = take_told(arrivals, name, held, taker);
        taken += r > 0;
    }
    told_let_go(arrivals->told);
    if (r < 0)
        scan_soon(arrivals, SCAN_QUIET_MS); /* what it was is still there, and will be found */
    return r < 0 ? r : (int)taken;
}

/* ------------------------------------------------------------------------- scans -- */

static int scan_all(struct arrivals *arrivals, unsigned most, const struct arrivals_taker *taker)
{
    struct scan scan = {
        .inbox = arrivals->inbox, .most = most, .take = taker->take, .arg = taker->arg};
    int64_t begin = coarse_ms();
    int r = scan_run(&scan);
    int64_t end = coarse_ms(), pause = (end - begin) * PAUSE_TIMES;
    if (pause < PAUSE_LEAST_MS)
        pause = PAUSE_LEAST_MS;
    if (scan.taken > 0 && scan.again == 0)
        pause = 0; /* there is more to be taken at once */
    else if (pause < scan.again)
        pause = scan.again;
    arrivals->scan_at = r < 0 ? end + SCAN_QUIET_MS : scan.again < 0 ? -1 : end + pause;
    atomic_store(&arrivals->waiting, scan.waiting);
    return r < 0 ? r : (int)scan.taken;
}

int arrivals_next(struct arrivals *arrivals, unsigned most, const struct arrivals_taker *taker)
{
    int told = take_all_told(arrivals, most, taker);
    bool due = arrivals->scan_at >= 0 && arrivals->scan_at <= coarse_ms();
    if (told < 0 || !due || (unsigned)told == most)
        return told;
    int found = scan_all(arrivals, most - (unsigned)told, taker);
    return found < 0 ? found : told + found;
}

/* -------------------------------------------------------------------------- life -- */

int arrivals_fd(const struct arrivals *arrivals)
{
    return arrivals->inotify;
}

int arrivals_wait(const struct arrivals *arrivals)
{
    if (told_count(arrivals->told) > 0)
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
    if (arrivals != NULL) {
        arrivals->inotify = -1;
        arrivals->told = told_new();
    }
    int r = arrivals == NULL || arrivals->told == NULL ? -ENOMEM : 0;
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
    told_free(arrivals->told);
    free(arrivals);
}
