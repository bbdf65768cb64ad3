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

#include "host.h"
#include "inbox_arrivals.h"
#include "inbox_publish.h"
#include "inbox_reject.h"
#include "inbox_taken.h"
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
    struct mount *mount;
    int fd; /* the directory */
    int wake;
    struct arrivals *arrivals;
    struct taken taken;
    struct reject reject;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    atomic_uint_fast64_t published, rejected, units;

    /* The thread's own: */
    struct taken_group group; /* that is being worked on */
    uint64_t tried;           /* groups up to this one are tried again only */
    int64_t again_at;         /* at this time, coarse_ms(); 0: at once */
    int64_t again;            /* the pause before that */
    bool busy;                /* there are such that wait for who writes them */
    int failing;              /* what the log was told of last; 0: all is well */
};

/* ------------------------------------------------------------------- one group -- */

/* What the store has of a group is on disk. (Every change of it is, when the call returns.) */
static int make_durable(struct inbox *inbox)
{
    (void)inbox;
    return 0;
}

static const char *reason_of(int error)
{
    switch (error) {
    case -EISDIR:
        return "there is a directory of this name";
    case -ENOTDIR:
        return "there is something else than a directory of this name";
    case -EPERM:
        return "this name is reserved in the root of a store";
    default:
        return strerror(-error);
    }
}

/* `from` is in the group's directory; `path` is how it arrived. */
static int reject(struct inbox *inbox, const char *from, const char *path, const char *reason)
{
    int r = reject_move(&inbox->reject, inbox->group.fd, from, path, reason);
    if (r > 0)
        atomic_fetch_add(&inbox->rejected, 1);
    return r < 0 ? r : 0;
}

static int leave(void *arg, const char *path, int error)
{
    const char *inner = strchr(path, '/');
    if (inner == NULL) /* a directory of ours */
        return error;
    return reject(arg, path, inner + 1,
                  error == -EPERM ? "a device, pipe or socket; a store has no such files"
                                  : strerror(-error));
}

static bool must_stop(void *arg)
{
    struct inbox *inbox = arg;
    return atomic_load(&inbox->stop);
}

/* What is there of the group in the store's staging: throw it away. */
static int discard(struct inbox *inbox)
{
    struct taken_name name = taken_group_name(inbox->group.sequence);
    int r = store_discard(inbox->mount->store, inbox->taken.staging, name.text);
    return r == -ENOENT ? 0 : r;
}

static int stage(struct inbox *inbox)
{
    const struct store_owner owner = {0700, geteuid(), getegid()};
    const struct store_taking taking = {.arg = inbox, .leave = leave, .stop = must_stop};
    struct store *store = inbox->mount->store;
    struct taken_name name = taken_group_name(inbox->group.sequence);
    struct store_attr attr;
    int r = discard(inbox);
    if (r == 0)
        r = store_mkdir(store, inbox->taken.staging, name.text, &owner, &attr);
    if (r == 0)
        r = store_take(store, inbox->group.fd, attr.id, &taking);
    if (r == 0)
        r = make_durable(inbox);
    if (r == 0)
        r = taken_mark(&inbox->taken, &inbox->group);
    if (r < 0 && r != -EINTR)
        (void)discard(inbox); /* it takes room */
    return r;
}

static int reject_unit(void *arg, unsigned unit, const char *path, int error)
{
    cleanup_free char *from = NULL;
    if (asprintf(&from, "%s/%s", taken_unit_name(unit).text, path) < 0)
        return -ENOMEM;
    return reject(arg, from, path, reason_of(error));
}

static void count_published(void *arg)
{
    struct inbox *inbox = arg;
    atomic_fetch_add(&inbox->published, 1);
}

static int publish(struct inbox *inbox)
{
    const struct publish how = {inbox->mount, inbox, reject_unit, count_published, must_stop};
    struct taken_name name = taken_group_name(inbox->group.sequence);
    struct store_attr attr;
    int r = store_lookup(inbox->mount->store, inbox->taken.staging, name.text, &attr);
    if (r == -ENOENT) /* it was published before */
        return make_durable(inbox);
    if (r == 0)
        r = publish_group(&how, attr.id, inbox->group.units);
    if (r == 0)
        r = store_rmdir(inbox->mount->store, inbox->taken.staging, name.text);
    return r == 0 ? make_durable(inbox) : r == -ENOENT ? -EAGAIN : r;
}

/* In what order, and why, says inbox_taken.h. */
static int work_on_group(struct inbox *inbox, uint64_t sequence)
{
    struct taken_group *group = &inbox->group;
    int r = taken_find(&inbox->taken, sequence, group);
    if (r == 0 && !group->staged)
        r = stage(inbox);
    if (r == 0)
        r = publish(inbox);
    if (r == 0)
        r = taken_remove(&inbox->taken, group);
    if (r == 0)
        atomic_fetch_sub(&inbox->units, group->count);
    if (r == -EBUSY && !group->staged && taken_split(&inbox->taken, group) < 0)
        log_line(LOG_WARNING, "inbox: can't tell apart what came together; it waits together");
    taken_end(&inbox->taken, group);
    return r == -ENOENT ? 0 : r;
}

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

/* Everything that was taken, in order. Those that wait for who writes them let others pass. */
static int work_on_all(struct inbox *inbox, bool due)
{
    inbox->busy = false;
    cleanup_free uint64_t *sequences = NULL;
    size_t count = 0;
    int r = taken_list(&inbox->taken, &sequences, &count);
    for (size_t i = 0; i < count && r == 0 && !must_stop(inbox); i++) {
        if (sequences[i] <= inbox->tried && !due) {
            inbox->busy = true;
            continue;
        }
        r = work_on_group(inbox, sequences[i]);
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
    int r = inbox->group.fd < 0 ? taken_begin(&inbox->taken, &inbox->group) : 0;
    if (r < 0)
        return r;
    atomic_fetch_add(&inbox->units, 1); /* before it isn't in the directory any more */
    r = taken_add(&inbox->taken, &inbox->group, path);
    if (r < 0)
        atomic_fetch_sub(&inbox->units, 1);
    if (r == -EBUSY || r == -EXDEV || r == -EPERM || r == -EACCES) {
        if (inbox->reject.lines++ < REJECT_LINES_MOST)
            log_line(LOG_WARNING, "inbox: can't take %s: %s", path, strerror(-r));
        r = -ENOENT;
    }
    return r == 0 ? (int)inbox->group.units : r == -ENOENT ? 0 : r;
}

static int take_again(void *arg, int unit)
{
    struct inbox *inbox = arg;
    int r = taken_again(&inbox->group, (unsigned)unit - 1);
    return r < 0 ? r : 1;
}

static int drop(void *arg, int unit)
{
    struct inbox *inbox = arg;
    int r = taken_drop(&inbox->group, (unsigned)unit - 1);
    if (r == 0)
        atomic_fetch_sub(&inbox->units, 1);
    return r;
}

/* A new group of what has arrived: how many. */
static int take_arrivals(struct inbox *inbox)
{
    inbox->group = (struct taken_group){.fd = -1};
    const struct arrivals_taker taker = {take, take_again, drop, inbox};
    int r = arrivals_next(inbox->arrivals, UNITS_MOST, &taker);
    if (inbox->group.fd >= 0)
        taken_end(&inbox->taken, &inbox->group);
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

static void *work(void *arg)
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

static int count_units(struct inbox *inbox)
{
    cleanup_free uint64_t *sequences = NULL;
    size_t count = 0;
    int r = taken_list(&inbox->taken, &sequences, &count);
    for (size_t i = 0; i < count; i++) {
        struct taken_group group;
        if (taken_find(&inbox->taken, sequences[i], &group) == 0)
            atomic_fetch_add(&inbox->units, group.count);
        cleanup_fd_p(&group.fd);
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
    inbox->mount = mount;
    inbox->fd = inbox->reject.fd = inbox->taken.fd = inbox->wake = -1;
    int r = open_directory(inbox, mount->options->inbox, why);
    if (r == 0)
        r = taken_open(&inbox->taken, mount->store, inbox->fd, why);
    if (r == 0)
        r = reject_open(&inbox->reject, inbox->fd, why);
    if (r == 0)
        r = arrivals_open(inbox->fd, &inbox->arrivals, why);
    if (r == 0) {
        inbox->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = inbox->wake < 0 ? -errno : count_units(inbox);
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
    int r = -pthread_create(&inbox->thread, NULL, work, inbox);
    inbox->running = r == 0;
    return r;
}

void inbox_stop(struct inbox *inbox)
{
    if (inbox == NULL || !inbox->running)
        return;
    atomic_store(&inbox->stop, true);
    (void)eventfd_write(inbox->wake, 1);
    pthread_join(inbox->thread, NULL);
    inbox->running = false;
}

void inbox_free(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    arrivals_free(inbox->arrivals);
    reject_close(&inbox->reject);
    taken_close(&inbox->taken);
    cleanup_fd_p(&inbox->wake);
    cleanup_fd_p(&inbox->fd);
    free(inbox);
}

void inbox_print(FILE *out, const struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    metrics_print_info(out, "lmdbfs_inbox_info", "The directory that files are taken from.",
                       "directory", inbox->mount->options->inbox);
    metrics_print(out, "lmdbfs_inbox_published_total", "counter",
                  "Names that were moved into place from the inbox; a new tree is one.",
                  atomic_load(&inbox->published));
    metrics_print(out, "lmdbfs_inbox_rejected_total", "counter",
                  "Names that could not be published and are in .rejected now.",
                  atomic_load(&inbox->rejected));
    metrics_print(out, "lmdbfs_inbox_waiting", "gauge",
                  "Names that arrived in the inbox and aren't published yet.",
                  atomic_load(&inbox->units) + arrivals_waiting(inbox->arrivals));
}
