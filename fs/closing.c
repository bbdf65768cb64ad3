/* SPDX-License-Identifier: BSD-2-Clause */
#include "closing.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <time.h>

#include "companion.h"
#include "log.h"
#include "mount.h"
#include "store/util.h"
#include "tasks.h"

/*
 * The kernel reports a close a moment before the file is closed. So who finds the file still in
 * use tries again, after these times in milliseconds, doubled each time. Without an end: if the
 * descriptor is another one, it will be reported too, but nothing is lost by asking.
 */
#define AGAIN_FIRST_MS 1
#define AGAIN_MOST_MS 8192

/* Most files are written and closed within this time, milliseconds. Those that are not by then are
 * marked, which takes several requests. */
#define GRACE_MS 5

/* Seals that are made for requests at a time: to take a lease, the companion may have to wait for
 * WRITEs, so some workers must be left to serve those (loop.c): of all that read /dev/fuse, and on
 * each queue of rings, whose workers are bound to its CPU. Who comes when there are so many has it
 * done in the background; that is dear, because his file is renamed while it isn't sealed. */
#define SEALS_MOST 24
#define SEALS_OF_QUEUE 4

/* CPUs that are told apart. */
#define QUEUES 64

/* Files of which we know that they are watched, a slot for each of the last ids: so that a large
 * file is not marked at every WRITE. */
#define WATCHED_SLOTS 1024

/* Lines in the log about writing to published files, per mount. */
#define HEALED_LINES 32

/* What the thread is asked to do. */
enum { SEAL, WATCH, HEAL, YOUNG };

/* A file that was found in use, to be tried again. */
struct busy {
    uint64_t id;
    int64_t due;  /* milliseconds of the monotonic clock */
    int64_t wait; /* before the try after that */
};

struct closing {
    struct mount *mount;
    pthread_t thread;
    bool running;
    int events; /* fanotify's, the companion's */
    int wake;   /* an eventfd */

    /* Cleared when the close is heard of: as long as the file is open, its mark can't go. (Should
     * it be closed, evicted and opened again before we hear of it, it is found busy then, and
     * tried until it is closed.) */
    _Atomic uint64_t watched[WATCHED_SLOTS];

    /* The thread's own: */
    struct busy *busy;
    size_t busy_count, busy_room;
    unsigned healed;

    pthread_mutex_t lock;         /* guards the rest */
    unsigned seals;               /* under way for requests */
    unsigned queue_seals[QUEUES]; /* of them */
    struct tasks tasks;
    bool stop;  /* the thread shall end */
    bool ended; /* it does, and takes no more tasks */
};

/* -------------------------------------------------------------------- the queue -- */

/* True: the thread has to be told. */
static bool queue(struct closing *closing, uint64_t id, int what, int64_t due)
{
    bool only = false;
    with_mutex(&closing->lock);
    if (!closing->ended && tasks_add(&closing->tasks, (struct task){id, what, due}, &only) < 0)
        log_line(LOG_WARNING, "out of memory: file %llu stays unsealed until the next start",
                 (unsigned long long)id);
    return only;
}

static void add_task(struct closing *closing, uint64_t id, int what, int64_t due)
{
    if (queue(closing, id, what, due))
        (void)eventfd_write(closing->wake, 1);
}

static bool take(struct closing *closing, bool all, struct task *task)
{
    with_mutex(&closing->lock);
    return tasks_take(&closing->tasks, all, task);
}

static int64_t next_due(struct closing *closing)
{
    with_mutex(&closing->lock);
    return tasks_due(&closing->tasks);
}

void closing_heal(struct closing *closing, uint64_t id)
{
    add_task(closing, id, HEAL, 0);
}

static _Atomic uint64_t *watched_slot(struct closing *closing, uint64_t id)
{
    return &closing->watched[id % WATCHED_SLOTS];
}

/* --------------------------------------------------------------------- sealing -- */

static int seal_under_lease(struct mount *mount, uint64_t id)
{
    int r = companion_lease(mount->companion, id);
    if (r < 0)
        return r == -ESTALE ? -ENOENT : r;
    r = store_seal(mount->store, id);
    companion_unlease(mount->companion, id);
    return r;
}

/* Nothing is left to do for a file that is gone, sealed or empty. One in staging that is written
 * again and again is left alone until it is moved. */
static bool wants_seal(struct mount *mount, uint64_t id)
{
    struct store_attr attr;
    return store_getattr(mount->store, id, &attr) == 0 && attr.open && !attr.reopened &&
           attr.size > 0 && attr.nlink > 0;
}

static bool begin_seal(struct closing *closing, unsigned queue)
{
    with_mutex(&closing->lock);
    bool rings = closing->mount->rings.used;
    if (closing->seals == SEALS_MOST || (rings && closing->queue_seals[queue] == SEALS_OF_QUEUE))
        return false;
    closing->seals++;
    closing->queue_seals[queue]++;
    return true;
}

static void end_seal(struct closing *closing, unsigned queue)
{
    with_mutex(&closing->lock);
    closing->seals--;
    closing->queue_seals[queue]--;
}

int closing_seal(struct closing *closing, uint64_t id)
{
    int cpu = sched_getcpu();
    unsigned queue = cpu < 0 ? 0 : (unsigned)cpu % QUEUES;
    if (!begin_seal(closing, queue)) {
        add_task(closing, id, SEAL, 0);
        return -EBUSY;
    }
    int r = seal_under_lease(closing->mount, id);
    if (r == -EBUSY)
        add_task(closing, id, WATCH, 0);
    end_seal(closing, queue);
    return r;
}

bool closing_is_written(struct closing *closing, uint64_t id)
{
    int r = companion_lease(closing->mount->companion, id);
    if (r == 0)
        companion_unlease(closing->mount->companion, id);
    return r == -EBUSY;
}

/* True: it is in use, try again. */
static bool try_seal(struct closing *closing, uint64_t id)
{
    struct mount *mount = closing->mount;
    if (!wants_seal(mount, id))
        return false;
    int r = seal_under_lease(mount, id);
    if (r == 0) {
        mount_attr_changed(mount, id);
        store_hurry(mount->store);
    } else if (r != -EBUSY && r != -ENOENT)
        log_line(LOG_WARNING, "cannot seal file %llu, the next start will: %s",
                 (unsigned long long)id, strerror(-r));
    return r == -EBUSY;
}

/* Nobody writes the file, so what is written to it from now on has to be told. */
static void forget_watched(struct closing *closing, uint64_t id)
{
    uint64_t known = id;
    (void)atomic_compare_exchange_strong(watched_slot(closing, id), &known, 0);
}

static void seal(struct closing *closing, uint64_t id)
{
    if (!try_seal(closing, id)) {
        forget_watched(closing, id);
        return;
    }
    size_t i = 0;
    while (i < closing->busy_count && closing->busy[i].id != id)
        i++;
    if (i == closing->busy_count) {
        if (make_room(&closing->busy, &closing->busy_room, i, sizeof(*closing->busy)) < 0)
            return; /* it is tried when it is closed */
        closing->busy_count++;
    }
    closing->busy[i] = (struct busy){id, monotonic_ms() + AGAIN_FIRST_MS, AGAIN_FIRST_MS * 2};
}

/* Try those that are due, or all. Returns when to look again, -1 for never. */
static int64_t seal_busy(struct closing *closing, bool all)
{
    int64_t now = monotonic_ms(), next = -1;
    for (size_t i = 0; i < closing->busy_count;) {
        struct busy *busy = &closing->busy[i];
        if (all || busy->due <= now) {
            if (!try_seal(closing, busy->id)) {
                forget_watched(closing, busy->id);
                *busy = closing->busy[--closing->busy_count];
                continue;
            }
            busy->due = now + busy->wait;
            busy->wait = busy->wait * 2 < AGAIN_MOST_MS ? busy->wait * 2 : AGAIN_MOST_MS;
        }
        if (next < 0 || busy->due < next)
            next = busy->due;
        i++;
    }
    return next;
}

static void heal(struct closing *closing, uint64_t id)
{
    (void)fuse_lowlevel_notify_inval_inode(closing->mount->session, id, 0, 0);
    if (closing->healed++ < HEALED_LINES)
        log_line(LOG_WARNING,
                 "refused to write to file %llu, which is published; what others saw "
                 "of it meanwhile is undone",
                 (unsigned long long)id);
}

/* He may have closed it before it was marked, so it is tried at once. */
static void watch(struct closing *closing, uint64_t id)
{
    int r = companion_mark(closing->mount->companion, id);
    if (r < 0 && r != -ESTALE && r != -ENODEV) /* gone; being unmounted */
        log_line(LOG_WARNING, "cannot see when file %llu is closed: %s", (unsigned long long)id,
                 strerror(-r));
    seal(closing, id);
}

/* It has no name yet, but can get one as long as it is open (O_TMPFILE). */
static bool is_nameless(struct mount *mount, uint64_t id)
{
    struct store_attr attr;
    return store_getattr(mount->store, id, &attr) == 0 && attr.open && attr.nlink == 0;
}

/* A file that was written a moment ago. */
static void grow_up(struct closing *closing, uint64_t id)
{
    if (try_seal(closing, id) || is_nameless(closing->mount, id))
        watch(closing, id);
    else
        forget_watched(closing, id);
}

/* Returns when there is more to do, -1 for never. */
static int64_t work_off(struct closing *closing, bool all)
{
    struct task task;
    while (take(closing, all, &task)) {
        if (task.what == HEAL)
            heal(closing, task.id);
        else if (task.what == WATCH)
            watch(closing, task.id);
        else if (task.what == YOUNG)
            grow_up(closing, task.id);
        else
            seal(closing, task.id);
    }
    int64_t busy = seal_busy(closing, all), young = next_due(closing);
    return busy < 0 || (young >= 0 && young < busy) ? young : busy;
}

/* --------------------------------------------------------------------- listening -- */

/* The node that an event is about; 0: none, or some were lost. */
static uint64_t node_of(const struct fanotify_event_metadata *event)
{
    const struct fanotify_event_info_fid *info = (const void *)(event + 1);
    if (event->event_len < sizeof(*event) + sizeof(*info) + sizeof(struct file_handle))
        return 0;
    const struct file_handle *handle = (const void *)info->handle;
    return companion_node_of(handle);
}

static void listen(struct closing *closing)
{
    _Alignas(struct fanotify_event_metadata) char buffer[16384];
    ssize_t left;
    while ((left = read(closing->events, buffer, sizeof(buffer))) > 0) {
        struct fanotify_event_metadata *event = (void *)buffer;
        for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
            uint64_t id = node_of(event);
            if (id == 0)
                continue;
            atomic_store(watched_slot(closing, id), 0);
            (void)queue(closing, id, SEAL, 0);
        }
    }
}

static bool must_stop(struct closing *closing)
{
    with_mutex(&closing->lock);
    return closing->stop;
}

static void *listen_and_seal(void *arg)
{
    struct closing *closing = arg;
    bool stop = false;
    while (!stop) {
        int64_t next = work_off(closing, false);
        int64_t wait = next - monotonic_ms();
        struct pollfd fds[] = {
            {.fd = closing->events, .events = POLLIN},
            {.fd = closing->wake, .events = POLLIN},
        };
        (void)poll(fds, array_length(fds), next < 0 ? -1 : wait < 0 ? 0 : (int)wait);
        eventfd_t count;
        if (fds[1].revents != 0)
            (void)eventfd_read(closing->wake, &count);
        stop = must_stop(closing);
        listen(closing);
    }
    (void)work_off(closing, true);
    with_mutex(&closing->lock);
    closing->ended = true;
    return NULL;
}

void closing_written(struct closing *closing, uint64_t id)
{
    if (atomic_exchange(watched_slot(closing, id), id) != id)
        add_task(closing, id, YOUNG, monotonic_ms() + GRACE_MS);
}

/* ---------------------------------------------------------------------- life -- */

void closing_free(struct closing *closing)
{
    if (closing == NULL)
        return;
    cleanup_fd_p(&closing->wake);
    pthread_mutex_destroy(&closing->lock);
    free(closing->busy);
    tasks_free(&closing->tasks);
    free(closing);
}

static int open_all(struct closing *closing)
{
    closing->events = companion_events(closing->mount->companion);
    if (closing->events < 0)
        return -EOPNOTSUPP;
    closing->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return closing->wake < 0 ? -errno : 0;
}

int closing_start(struct mount *mount, struct closing **out)
{
    struct closing *closing = calloc(1, sizeof(*closing));
    if (closing == NULL)
        return -ENOMEM;
    closing->mount = mount;
    closing->events = closing->wake = -1;
    pthread_mutex_init(&closing->lock, NULL);
    /* Who waits for a lease to end makes the kernel tell us so; we are quick anyway. */
    signal(SIGIO, SIG_IGN);
    int r = open_all(closing);
    if (r == 0)
        r = -pthread_create(&closing->thread, NULL, listen_and_seal, closing);
    closing->running = r == 0;
    if (r < 0) {
        closing_free(closing);
        return r;
    }
    *out = closing;
    return 0;
}

void closing_stop(struct closing *closing)
{
    if (closing == NULL)
        return;
    {
        with_mutex(&closing->lock);
        closing->stop = true;
    }
    (void)eventfd_write(closing->wake, 1);
    if (closing->running)
        pthread_join(closing->thread, NULL);
    closing->running = false;
}
