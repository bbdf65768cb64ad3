/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "inbox_arrivals.h"
#include "inbox_work.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "store/util.h"

/* Units in a group: they share what it takes to make each step durable. */
#define UNITS_MOST 256

/* When it is tried again: what somebody writes, or a full disk; doubled each time. Milliseconds. */
#define AGAIN_FIRST_MS 50
#define AGAIN_MOST_MS 5000

struct inbox {
    int fd; /* the directory */
    int wake;
    struct arrivals *arrivals;
    struct work work;
    pthread_t thread;
    bool running;

    /* The thread's own: */
    uint64_t tried;   /* groups up to this one are tried again only */
    int64_t again_at; /* at this time, coarse_ms(); 0: at once */
    int64_t again;    /* the pause before that */
    bool busy;        /* there are such that wait for who writes them */
    int failing;      /* what the log was told of last; 0: all is well */
};

/* ------------------------------------------------------------------- all groups -- */

static void tell(struct inbox *inbox, int error)
{
    if (error == inbox->failing || error == -EBUSY || error == -EINTR)
        return;
    inbox->failing = error;
    if (error < 0)
        log_line(LOG_WARNING, "inbox: waiting, and trying again: %s", strerror(-error));
    else
        log_line(LOG_INFO, "inbox: going on");
}

static void try_again(struct inbox *inbox)
{
    inbox->again = inbox->again == 0                  ? AGAIN_FIRST_MS
                   : inbox->again * 2 < AGAIN_MOST_MS ? inbox->again * 2
                                                      : AGAIN_MOST_MS;
    inbox->again_at = coarse_ms() + inbox->again;
}

static bool must_stop(struct inbox *inbox)
{
    return atomic_load(&inbox->work.stop);
}

/* Everything that was taken, in order. Those that wait for who writes them let others pass. */
static int work_on_all(struct inbox *inbox, bool due)
{
    inbox->busy = false;
    cleanup_free uint64_t *sequences = NULL;
    size_t count = 0;
    int r = taken_list(&inbox->work.taken, &sequences, &count);
    for (size_t i = 0; i < count && r == 0 && !must_stop(inbox); i++) {
        if (sequences[i] <= inbox->tried && !due) {
            inbox->busy = true;
            continue;
        }
        r = work_on_group(&inbox->work, sequences[i]);
        if (r == -EBUSY || r == 0) {
            if (sequences[i] > inbox->tried)
                inbox->tried = sequences[i];
            inbox->busy |= r == -EBUSY;
            r = 0;
        }
    }
    return r;
}

static int take(void *arg, const char *path)
{
    struct inbox *inbox = arg;
    int r = inbox->work.group.fd < 0 ? taken_begin(&inbox->work.taken, &inbox->work.group) : 0;
    if (r < 0)
        return r;
    atomic_fetch_add(&inbox->work.units, 1); /* before it isn't in the directory any more */
    r = taken_add(&inbox->work.taken, &inbox->work.group, path);
    if (r < 0)
        atomic_fetch_sub(&inbox->work.units, 1);
    if (r == -EBUSY || r == -EXDEV || r == -EPERM || r == -EACCES) {
        if (inbox->work.reject.lines++ < REJECT_LINES_MOST)
            log_line(LOG_WARNING, "inbox: can't take %s: %s", path, strerror(-r));
        r = -ENOENT;
    }
    return r == 0 ? (int)inbox->work.group.units : r == -ENOENT ? 0 : r;
}

static int take_again(void *arg, int unit)
{
    struct inbox *inbox = arg;
    int r = taken_again(&inbox->work.group, (unsigned)unit - 1);
    return r < 0 ? r : 1;
}

/* A new group of what has arrived: how many. */
static int take_arrivals(struct inbox *inbox)
{
    inbox->work.group = (struct taken_group){.fd = -1};
    const struct arrivals_taker taker = {take, take_again, inbox};
    int r = arrivals_next(inbox->arrivals, UNITS_MOST, &taker);
    if (inbox->work.group.fd >= 0)
        taken_end(&inbox->work.taken, &inbox->work.group);
    return r;
}

/* ------------------------------------------------------------------------- thread -- */

/* Until something arrives (unless nothing more is to be taken now), or it is time. */
static void wait(struct inbox *inbox, bool blocked)
{
    int wait = blocked ? -1 : arrivals_wait(inbox->arrivals);
    if (inbox->again_at > 0) {
        int64_t again = inbox->again_at - coarse_ms();
        again = again < 0 ? 0 : again + 1;
        if (wait < 0 || again < wait)
            wait = (int)again;
    }
    struct pollfd fds[] = {
        {.fd = inbox->wake, .events = POLLIN},
        {.fd = blocked ? -1 : arrivals_fd(inbox->arrivals), .events = POLLIN},
    };
    (void)poll(fds, array_length(fds), wait);
}

static void *run(void *arg)
{
    struct inbox *inbox = arg;
    while (!must_stop(inbox)) {
        bool due = inbox->again_at <= coarse_ms();
        int r = work_on_all(inbox, due);
        if (r == 0 && !must_stop(inbox))
            r = take_arrivals(inbox);
        if (r < 0 || (inbox->busy && due))
            try_again(inbox);
        else if (!inbox->busy)
            inbox->again_at = inbox->again = 0;
        tell(inbox, r < 0 ? r : 0);
        if (r <= 0 && !must_stop(inbox))
            wait(inbox, r < 0);
    }
    return NULL;
}

/* --------------------------------------------------------------------------- life -- */

static int open_directory(struct inbox *inbox, const char *path, char why[STORE_WHY_MAX])
{
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        int error = -errno;
        snprintf(why, STORE_WHY_MAX, "can't make the inbox %s: %s", path, strerror(errno));
        return error;
    }
    inbox->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = inbox->fd < 0 || fstat(inbox->fd, &st) < 0 ? -errno : 0;
    if (r < 0)
        snprintf(why, STORE_WHY_MAX, "can't use %s as an inbox: %s", path, strerror(-r));
    else if (flock(inbox->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        snprintf(why, STORE_WHY_MAX, "%s is the inbox of another mount", path);
        r = -EBUSY;
    }
    return r;
}

int inbox_open(struct mount *mount, struct inbox **out, char why[STORE_WHY_MAX])
{
    struct inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL) {
        snprintf(why, STORE_WHY_MAX, "out of memory");
        return -ENOMEM;
    }
    inbox->fd = inbox->work.reject.fd = inbox->work.taken.fd = inbox->wake = -1;
    int r = open_directory(inbox, mount->options->inbox, why);
    if (r == 0)
        r = work_open(&inbox->work, mount, inbox->fd, why);
    if (r == 0)
        r = arrivals_open(inbox->fd, &inbox->arrivals, why);
    if (r == 0) {
        inbox->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = inbox->wake < 0 ? -errno : 0;
        if (r < 0)
            snprintf(why, STORE_WHY_MAX, "can't use the inbox: %s", strerror(-r));
    }
    if (r < 0)
        inbox_free(inbox);
    else
        *out = inbox;
    return r;
}

int inbox_start(struct inbox *inbox)
{
    if (inbox == NULL)
        return 0;
    /* Who waits for a lease of ours to end makes the kernel tell us so; we are quick anyway. */
    signal(SIGIO, SIG_IGN);
    int r = -pthread_create(&inbox->thread, NULL, run, inbox);
    inbox->running = r == 0;
    return r;
}

void inbox_stop(struct inbox *inbox)
{
    if (inbox == NULL || !inbox->running)
        return;
    atomic_store(&inbox->work.stop, true);
    (void)eventfd_write(inbox->wake, 1);
    pthread_join(inbox->thread, NULL);
    inbox->running = false;
}

void inbox_free(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    arrivals_free(inbox->arrivals);
    work_close(&inbox->work);
    cleanup_fd_p(&inbox->wake);
    cleanup_fd_p(&inbox->fd);
    free(inbox);
}

void inbox_renamed(struct inbox *inbox, uint64_t parent, const char *name, uint64_t new_parent,
                   const char *new_name, bool exchanged)
{
    if (inbox != NULL)
        window_renamed(&inbox->work.window, parent, name, new_parent, new_name, exchanged);
}

void inbox_print(FILE *out, const struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    metrics_print_info(out, "lmdbfs_inbox_info", "The directory that files are taken from.",
                       "directory", inbox->work.mount->options->inbox);
    metrics_print(out, "lmdbfs_inbox_published_total", "counter",
                  "Names that were moved into place from the inbox; a new tree is one.",
                  atomic_load(&inbox->work.published));
    metrics_print(out, "lmdbfs_inbox_rejected_total", "counter",
                  "Names that could not be published and are in .rejected now.",
                  atomic_load(&inbox->work.rejected));
    metrics_print(out, "lmdbfs_inbox_waiting", "gauge",
                  "Names that arrived in the inbox and aren't published yet.",
                  atomic_load(&inbox->work.units) + arrivals_waiting(inbox->arrivals));
}
