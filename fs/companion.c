/* SPDX-License-Identifier: BSD-2-Clause */
#include "companion.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "companion_wire.h"
#include "store/util.h"

struct socket {
    pthread_mutex_t lock; /* held for a question and its answer */
    int fd;               /* -1: stopped */
};

struct companion {
    pid_t pid;
    pid_t walkers[WALKER_THREADS];
    struct socket sockets[CHANNELS];
    int events; /* fanotify's; -1: there is none */
};

/* ------------------------------------------------------------ conversation -- */

static int send_question(int fd, enum question what, uint64_t id, const char *path)
{
    struct question_message message = {.head = {what, id}};
    size_t length = path == NULL ? 0 : strlen(path);
    if (length >= sizeof(message.path))
        return -ENAMETOOLONG;
    if (path != NULL)
        memcpy(message.path, path, length);
    ssize_t n;
    do
        n = send(fd, &message, sizeof(message.head) + length + 1, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* With the descriptor that comes with it, if there is one. */
static int receive_answer(int fd, struct answer *answer, int *passed)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {answer, sizeof(*answer)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t n;
    do
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n != sizeof(*answer))
        return n < 0 ? -errno : -ENODEV; /* it has died */
    const struct cmsghdr *extra = CMSG_FIRSTHDR(&message);
    if (extra != NULL && extra->cmsg_type == SCM_RIGHTS)
        memcpy(passed, CMSG_DATA(extra), sizeof(*passed));
    return answer->result;
}

static int ask(struct companion *companion, enum channel channel, enum question what, uint64_t id,
               const char *path)
{
    struct socket *socket = &companion->sockets[channel];
    struct answer answer;
    int none = -1;
    with_mutex(&socket->lock);
    if (socket->fd < 0)
        return -ENODEV;
    int r = send_question(socket->fd, what, id, path);
    return r < 0 ? r : receive_answer(socket->fd, &answer, &none);
}

int companion_lease(struct companion *companion, uint64_t id)
{
    return ask(companion, CHANNEL_CONTROL, ASK_LEASE, id, NULL);
}

void companion_unlease(struct companion *companion, uint64_t id)
{
    struct socket *socket = &companion->sockets[CHANNEL_CONTROL];
    with_mutex(&socket->lock);
    if (socket->fd >= 0)
        (void)send_question(socket->fd, ASK_UNLEASE, id, NULL);
}

int companion_mark(struct companion *companion, uint64_t id)
{
    return ask(companion, CHANNEL_CONTROL, ASK_MARK, id, NULL);
}

int companion_list(struct companion *companion, const char *path, bool tree)
{
    return ask(companion, CHANNEL_LIST, tree ? ASK_TREE : ASK_LIST, 0, path);
}

void companion_end_list(struct companion *companion)
{
    /* Not locked: who asks holds the lock while he waits. Nobody closes it before he is done. */
    (void)shutdown(companion->sockets[CHANNEL_LIST].fd, SHUT_RDWR);
}

int companion_stat(struct companion *companion, const char *path)
{
    return ask(companion, CHANNEL_STAT, ASK_STAT, 0, path);
}

bool companion_walks(const struct companion *companion, pid_t pid)
{
    for (size_t i = 0; i < array_length(companion->walkers); i++)
        if (companion->walkers[i] == pid)
            return true;
    return false;
}

int companion_events(const struct companion *companion)
{
    return companion->events;
}

uint64_t companion_node_of(const struct file_handle *handle)
{
    uint32_t words[HANDLE_WORDS];
    if (handle->handle_type != HANDLE_TYPE || handle->handle_bytes < sizeof(words))
        return 0;
    memcpy(words, handle->f_handle, sizeof(words));
    return (uint64_t)words[0] << 32 | words[1];
}

/* -------------------------------------------------------------------- life -- */

/* Start ourselves once more, with the sockets' other ends. */
static int spawn(const int ends[CHANNELS], pid_t *pid)
{
    static char name[] = "lmdbfs", command[] = "companion";
    char *const argv[] = {name, command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    /* First out of the way of the numbers that they shall have. */
    for (int i = 0; i < CHANNELS; i++)
        posix_spawn_file_actions_adddup2(&actions, ends[i], CHANNEL_FD(CHANNELS + i));
    for (int i = 0; i < CHANNELS; i++)
        posix_spawn_file_actions_adddup2(&actions, CHANNEL_FD(CHANNELS + i), CHANNEL_FD(i));
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions, CHANNEL_FD(CHANNELS));
    int error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

static int connect_and_spawn(struct companion *companion)
{
    int ends[CHANNELS];
    int r = 0, made = 0;
    for (; made < CHANNELS && r == 0; made++) {
        int pair[2];
        r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
        if (r < 0)
            break;
        companion->sockets[made].fd = pair[0];
        /* Above the numbers that they get in the companion. */
        ends[made] = fcntl(pair[1], F_DUPFD_CLOEXEC, CHANNEL_FD(2 * CHANNELS));
        close(pair[1]);
        r = ends[made] < 0 ? -errno : 0;
    }
    if (r == 0)
        r = spawn(ends, &companion->pid);
    for (int i = 0; i < made; i++)
        cleanup_fd_p(&ends[i]);
    return r;
}

static int attach(struct companion *companion, const char *path, dev_t device)
{
    int fd = companion->sockets[CHANNEL_CONTROL].fd;
    struct answer answer = {0};
    int r = send_question(fd, ASK_ATTACH, device, path);
    if (r == 0)
        r = receive_answer(fd, &answer, &companion->events);
    memcpy(companion->walkers, answer.walkers, sizeof(companion->walkers));
    return r;
}

int companion_start(const char *path, dev_t device, struct companion **out)
{
    struct companion *companion = calloc(1, sizeof(*companion));
    if (companion == NULL)
        return -ENOMEM;
    companion->events = -1;
    for (int i = 0; i < CHANNELS; i++) {
        pthread_mutex_init(&companion->sockets[i].lock, NULL);
        companion->sockets[i].fd = -1;
    }
    int r = connect_and_spawn(companion);
    if (r == 0)
        r = attach(companion, path, device);
    if (r < 0) {
        companion_stop(companion);
        companion_free(companion);
        return r;
    }
    *out = companion;
    return 0;
}

void companion_stop(struct companion *companion)
{
    if (companion == NULL)
        return;
    if (companion->sockets[CHANNEL_CONTROL].fd >= 0)
        (void)send_question(companion->sockets[CHANNEL_CONTROL].fd, ASK_STOP, 0, NULL);
    for (int i = 0; i < CHANNELS; i++) {
        with_mutex(&companion->sockets[i].lock);
        cleanup_fd_p(&companion->sockets[i].fd);
        companion->sockets[i].fd = -1;
    }
    if (companion->pid > 0)
        while (waitpid(companion->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    companion->pid = 0;
}

void companion_free(struct companion *companion)
{
    if (companion == NULL)
        return;
    for (int i = 0; i < CHANNELS; i++)
        pthread_mutex_destroy(&companion->sockets[i].lock);
    cleanup_fd_p(&companion->events);
    free(companion);
}
