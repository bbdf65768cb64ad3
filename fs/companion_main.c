/* SPDX-License-Identifier: BSD-2-Clause */
/* companion_main.c: the companion's own process, see companion.h. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "companion.h"
#include "companion_wire.h"
#include "store/store.h"
#include "store/util.h"

#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE 0x00000200 /* Linux 5.19 */
#endif

/* Sent by the kernel when the daemon's main thread ends. */
#define DAEMON_DIES SIGUSR1

/* Leases that the daemon has at a time: its limit is lower. */
#define LEASES_MOST 64

static struct {
    int copy, root; /* of the mount */
    int events;     /* fanotify's; -1: there is none */
    int abort;      /* fusectl's file that breaks the connection off; -1: there is none */
    pid_t walkers[WALKER_THREADS];

    /* The control thread's: */
    struct {
        uint64_t id; /* 0: free */
        int fd;
    } leases[LEASES_MOST];
} self = {.copy = -1, .root = -1, .events = -1, .abort = -1};

/* ---------------------------------------------------------------- questions -- */

static bool receive(enum channel channel, struct question_message *message)
{
    ssize_t n;
    do
        n = recv(CHANNEL_FD(channel), message, sizeof(*message), 0);
    while (n < 0 && errno == EINTR);
    return n > (ssize_t)sizeof(message->head);
}

static void answer(enum channel channel, int result)
{
    struct answer answer = {.result = result};
    (void)send(CHANNEL_FD(channel), &answer, sizeof(answer), MSG_NOSIGNAL);
}

/* With fanotify's descriptor. */
static void answer_attached(void)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct answer answer = {.result = 0};
    memcpy(answer.walkers, self.walkers, sizeof(answer.walkers));
    struct iovec part = {&answer, sizeof(answer)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (self.events >= 0) {
        control.head = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET,
            .cmsg_type = SCM_RIGHTS,
            .cmsg_len = CMSG_LEN(sizeof(self.events)),
        };
        memcpy(CMSG_DATA(&control.head), &self.events, sizeof(self.events));
        message.msg_control = control.space;
        message.msg_controllen = sizeof(control.space);
    }
    (void)sendmsg(CHANNEL_FD(CHANNEL_CONTROL), &message, MSG_NOSIGNAL);
}

/* ------------------------------------------------------------------ the mount -- */

/* The file that ends the connection, wherever fusectl is mounted, or isn't. */
static int open_abort(dev_t device)
{
    cleanup_fd int context = (int)syscall(SYS_fsopen, "fusectl", FSOPEN_CLOEXEC);
    if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    cleanup_fd int control = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    char path[32];
    snprintf(path, sizeof(path), "%u/abort", minor(device));
    int fd = control < 0 ? -1 : openat(control, path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int mark(uint64_t id)
{
    struct node_handle handle = node_handle(id);
    cleanup_fd int fd = open_by_handle_at(self.root, &handle.head, O_PATH | O_CLOEXEC);
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    /* Evictable: the mark shall not keep the inode in memory. While it is open it is there. */
    if (fd < 0 || fanotify_mark(self.events, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_CLOSE_WRITE,
                                AT_FDCWD, path) < 0)
        return -errno;
    return 0;
}

static int attach(const char *path, dev_t device)
{
    self.copy = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (self.copy < 0)
        return -errno;
    /* A handle can't be opened by way of an O_PATH descriptor, which is what a copy is. */
    self.root = openat(self.copy, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (self.root < 0 || fstat(self.root, &st) < 0)
        return -errno;
    if (st.st_dev != device)
        return -ENODEV;
    self.abort = open_abort(device);
    if (self.abort < 0)
        return self.abort;
    /* Whether this kernel lets us watch a node of FUSE: since Linux 6.8. */
    self.events = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK |
                                    FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS,
                                O_RDONLY);
    if (self.events >= 0 && mark(STORE_ROOT_ID) < 0) {
        close(self.events);
        self.events = -1;
    }
    return 0;
}

static int find_lease(uint64_t id)
{
    for (int i = 0; i < LEASES_MOST; i++)
        if (self.leases[i].id == id)
            return i;
    return -1;
}

/* Closing a descriptor has the kernel write what is dirty in the file's pages, and wait for that.
 */
static int lease(uint64_t id)
{
    struct node_handle handle = node_handle(id);
    int at = find_lease(0);
    if (at < 0)
        return -ENFILE;
    cleanup_fd int fd =
        open_by_handle_at(self.root, &handle.head, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? -EBUSY : -errno;
    self.leases[at].id = id;
    self.leases[at].fd = steal_fd(&fd);
    return 0;
}

static void unlease(uint64_t id)
{
    int at = find_lease(id);
    if (at < 0)
        return;
    close(self.leases[at].fd);
    self.leases[at].id = 0;
}

/* ---------------------------------------------------------------- the threads -- */

/* The daemon is dying, or dead. Whoever waits for its answers, we among them, waits no longer. */
static void break_off(void)
{
    (void)!write(self.abort, "1", 1);
    _exit(EXIT_SUCCESS);
}

static void *control(void *arg)
{
    (void)arg;
    struct question_message message;
    while (receive(CHANNEL_CONTROL, &message)) {
        if (message.head.what == ASK_STOP)
            _exit(EXIT_SUCCESS);
        if (message.head.what == ASK_UNLEASE)
            unlease(message.head.id);
        else
            answer(CHANNEL_CONTROL,
                   message.head.what == ASK_LEASE ? lease(message.head.id) : mark(message.head.id));
    }
    break_off();
    return NULL;
}

static void *list(void *arg)
{
    struct question_message message;
    while (receive(CHANNEL_LIST, &message)) {
        walk(arg, message.path, message.head.what == ASK_TREE);
        answer(CHANNEL_LIST, 0);
    }
    return NULL;
}

static void *look(void *arg)
{
    struct question_message message;
    struct statx attributes;
    int root = *(int *)arg;
    while (receive(CHANNEL_STAT, &message))
        answer(CHANNEL_STAT,
               statx(root, message.path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &attributes) < 0
                   ? -errno
                   : 0);
    return NULL;
}

static int start_threads(void)
{
    static pthread_t threads[3];
    struct walker *walker = walker_new(self.root, self.walkers);
    if (walker == NULL)
        return -ENOMEM;
    int error = pthread_create(&threads[0], NULL, control, NULL);
    if (error == 0)
        error = pthread_create(&threads[1], NULL, list, walker);
    if (error == 0)
        error = pthread_create(&threads[2], NULL, look, &self.root);
    return -error;
}

/* ^C in a terminal is for the daemon, which tells us when it stops. */
static void ignore_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGIO};
    for (size_t i = 0; i < array_length(numbers); i++)
        signal(numbers[i], SIG_IGN);
}

int companion_main(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, DAEMON_DIES);
    sigprocmask(SIG_BLOCK, &set, NULL);
    prctl(PR_SET_PDEATHSIG, DAEMON_DIES);
    (void)setsid();
    if (chdir("/") < 0)
        return EXIT_FAILURE;
    ignore_signals();
    struct question_message message;
    if (!receive(CHANNEL_CONTROL, &message) || message.head.what != ASK_ATTACH)
        return EXIT_FAILURE;
    int r = attach(message.path, (dev_t)message.head.id);
    if (r == 0)
        r = start_threads();
    if (r < 0) {
        answer(CHANNEL_CONTROL, r);
        return EXIT_FAILURE;
    }
    answer_attached();
    int number;
    sigwait(&set, &number);
    break_off();
    return EXIT_SUCCESS;
}
