/* SPDX-License-Identifier: BSD-2-Clause */
#include "mount.h"

#include <fcntl.h>
#include <fuse_log.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "backing.h"
#include "closing.h"
#include "companion.h"
#include "inbox.h"
#include "large.h"
#include "log.h"
#include "memory.h"
#include "mountpoint.h"
#include "ops.h"
#include "prewalk.h"
#include "push.h"
#include "refresh.h"
#include "store/util.h"

/* When we are told to end while the mount is in use: how long requests that are under way have to
 * finish. */
#define STOP_GRACE_MS 1000

/* -------------------------------------------------------- words of libfuse -- */

/* libfuse says on its log why it could not mount, and we say it in our one line. Mounting is
 * done by one thread. */
static char last_words[256];

static __attribute__((format(printf, 2, 0))) void remember_words(enum fuse_log_level level,
                                                                 const char *format, va_list args)
{
    (void)level;
    int n = vsnprintf(last_words, sizeof(last_words), format, args);
    size_t end = n < 0 ? 0 : strnlen(last_words, sizeof(last_words));
    while (end > 0 && last_words[end - 1] == '\n')
        last_words[--end] = '\0';
}

static __attribute__((format(printf, 2, 0))) void log_words(enum fuse_log_level level,
                                                            const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    log_line((int)level, "%s", text); /* its levels are those of syslog */
}

static __attribute__((format(printf, 2, 0))) void print_words(enum fuse_log_level level,
                                                              const char *format, va_list args)
{
    (void)level;
    vfprintf(stderr, format, args);
}

/* ----------------------------------------------------------- life of a mount -- */

static int add_option(char **all, const char *name, const char *value)
{
    cleanup_free char *option = NULL;
    if (asprintf(&option, "%s%s", name, value) < 0)
        return -ENOMEM;
    return fuse_opt_add_opt_escaped(all, option) < 0 ? -ENOMEM : 0;
}

/* The mount's options as one word for libfuse. */
static int fuse_options(const struct mount_options *options, char **all)
{
    const char *source = options->fsname != NULL ? options->fsname : options->store_path;
    char size[16];
    snprintf(size, sizeof(size), "%u", options->max_read);
    int r = add_option(all, "subtype=", MOUNTPOINT_SUBTYPE);
    if (r == 0)
        r = add_option(all, "fsname=", source);
    if (r == 0)
        r = add_option(all, "default_permissions", "");
    if (r == 0 && options->read_only)
        r = add_option(all, "ro", "");
    if (r == 0 && options->debug)
        r = add_option(all, "debug", "");
    if (r == 0 && options->max_read > 0)
        r = add_option(all, "max_read=", size);
    if (r == 0 && options->fuse != NULL && fuse_opt_add_opt(all, options->fuse) < 0)
        r = -ENOMEM;
    return r;
}

static struct fuse_session *new_session(struct mount *mount)
{
    cleanup_free char *all = NULL;
    if (fuse_options(mount->options, &all) < 0)
        return NULL;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session = NULL;
    if (fuse_opt_add_arg(&args, "lmdbfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, all) == 0)
        session = fuse_session_new(&args, &ops, sizeof(ops), mount);
    fuse_opt_free_args(&args);
    return session;
}

static void tell_verify(struct mount *mount)
{
    switch (mount->options->verify) {
    case STORE_VERIFY_FIRST:
        ways_set(&mount->ways, WAY_verify, "first",
                 "a piece of an extent once, a small record each time");
        break;
    case STORE_VERIFY_ALWAYS:
        ways_set(&mount->ways, WAY_verify, "always", "as the options say");
        break;
    case STORE_VERIFY_NEVER:
        ways_set(&mount->ways, WAY_verify, "never", "as the options say: damage is handed out");
        break;
    }
}

struct mount *mount_new(const struct mount_options *options)
{
    struct mount *mount = calloc(1, sizeof(*mount));
    if (mount == NULL)
        return NULL;
    mount->options = options;
    stats_init(&mount->stats);
    ways_init(&mount->ways);
    prune_init(&mount->prune);
    privileges_init(&mount->privileges);
    tell_verify(mount);
    pthread_mutex_init(&mount->lock, NULL);
    pthread_cond_init(&mount->decided, NULL);
    fuse_set_log_func(options->debug ? print_words : log_words);
    mount->session = new_session(mount);
    if (mount->session == NULL) {
        mount_free(mount);
        return NULL;
    }
    return mount;
}

/*
 * Start the loop. io_uring=auto means by rings where they are offered. (For a mount that a
 * supervisor restarts after a crash, here is the place to mean the opposite: what is under way on
 * a ring when its daemon is killed waits for ever, also with a successor.)
 */
static int start_loop(struct mount *mount, char why[STORE_WHY_MAX])
{
    enum options_uring wish = mount->options->uring;
    struct loop_rings *rings = &mount->rings;
    rings->wanted = wish != OPTIONS_URING_OFF;
    int r = loop_start(mount->session, rings, memory_divide(mount->options->memory).requests,
                       &mount->loop);
    if (r < 0) {
        snprintf(why, STORE_WHY_MAX, "can't serve the mount on %s: %s", mount->options->mountpoint,
                 strerror(-r));
    } else if (wish == OPTIONS_URING_ON && !rings->used) {
        snprintf(why, STORE_WHY_MAX, "no io_uring: %s", rings->why);
        r = -EOPNOTSUPP;
    }
    ways_set(&mount->ways, WAY_requests, rings->used ? "io_uring" : "/dev/fuse", "%s",
             rings->wanted ? rings->why : "io_uring=off");
    return r;
}

int mount_start(struct mount *mount, struct store *store, char why[STORE_WHY_MAX])
{
    const char *path = mount->options->mountpoint;
    int r = 0;
    mount->store = store;
    mount->records = records_choose(mount->options->records, store, &mount->ways);
    if (mount->options->inbox != NULL && (r = inbox_open(mount, &mount->inbox, why)) < 0)
        return r;
    if (!mount->options->debug)
        fuse_set_log_func(remember_words);
    r = fuse_session_mount(mount->session, path) < 0 ? -EIO : 0;
    if (!mount->options->debug)
        fuse_set_log_func(log_words);
    if (r < 0) {
        snprintf(why, STORE_WHY_MAX, "can't mount on %s: %s", path,
                 last_words[0] != '\0' ? last_words : "fusermount3 refused, as said above");
        return r;
    }
    mount->device = mountpoint_device(path);
    large_read_ahead(mount);
    if (mount->options->memory > 0)
        r = prune_start(&mount->prune, mount->session, store);
    if (r == 0)
        r = start_loop(mount, why);
    if (r == 0) {
        mode_decide(mount);
        if ((r = inbox_start(mount->inbox)) < 0)
            snprintf(why, STORE_WHY_MAX, "can't start the inbox: %s", strerror(-r));
    }
    if (r < 0) {
        (void)mountpoint_detach(path, mount->device);
        mode_let_go(mount);
        mode_set(mount, MODE_OPEN); /* nobody shall wait for it any more */
        loop_stop(steal_pointer(&mount->loop));
        prune_stop(&mount->prune);
    }
    return r;
}

/*
 * Somebody may unmount it while others still use it (umount -l), or have it mounted in a namespace
 * that we can't see. Then it goes on for them; but what they write gets sealed only at the next
 * start.
 */
void mount_wait(struct mount *mount, int fd)
{
    cleanup_fd int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    struct pollfd fds[] = {
        {.fd = fd, .events = POLLIN},
        {.fd = loop_ended_fd(mount->loop), .events = POLLIN},
        {.fd = table, .events = POLLPRI},
    };
    while ((fds[0].revents | fds[1].revents) == 0) {
        if (fds[2].fd >= 0 && !mountpoint_device_in_use(mount->device)) {
            mode_let_go(mount);
            fds[2].fd = -1;
        }
        if (poll(fds, array_length(fds), -1) < 0)
            fds[0].revents = fds[1].revents = 0;
    }
}

/* True if the kernel has ended the session, or does so within the time. */
static bool has_ended(const struct mount *mount, int milliseconds)
{
    struct pollfd ended = {.fd = loop_ended_fd(mount->loop), .events = POLLIN};
    return poll(&ended, 1, milliseconds) > 0;
}

/*
 * The mount is taken out of sight while we still answer: unmounting makes requests. If nobody
 * uses it, that ends the session; else its last users see ENOTCONN once we are gone. We don't use
 * fuse_session_unmount(): it closes the session first, and a second time unmounts whatever is
 * mounted there by then, such as an automount.
 */
void mount_stop(struct mount *mount)
{
    if (mount->loop == NULL)
        return;
    bool ended = has_ended(mount, 0);
    if (!ended) {
        int r = mountpoint_detach(mount->options->mountpoint, mount->device);
        if (r < 0)
            log_line(LOG_ERR, "can't unmount %s: %s; it is dead from now on: umount -l %s",
                     mount->options->mountpoint, strerror(-r), mount->options->mountpoint);
    }
    prune_stop(&mount->prune);
    mode_let_go(mount);
    if (!ended)
        (void)has_ended(mount, STOP_GRACE_MS);
    loop_stop(steal_pointer(&mount->loop));
    backings_free(steal_pointer(&mount->backings));
}

void mount_free(struct mount *mount)
{
    if (mount == NULL)
        return;
    if (mount->session != NULL)
        fuse_session_destroy(mount->session);
    backings_free(mount->backings);
    prewalk_free(mount->prewalk);
    refresh_free(mount->refresh);
    push_free(mount->push);
    inbox_free(mount->inbox);
    closing_free(mount->closing);
    companion_free(mount->companion);
    stats_destroy(&mount->stats);
    ways_destroy(&mount->ways);
    prune_destroy(&mount->prune);
    privileges_destroy(&mount->privileges);
    free(mount);
}

void mount_attr_changed(struct mount *mount, uint64_t id)
{
    /* -ENOENT: the kernel doesn't know it. Whatever else: there is no kernel to tell any more. */
    (void)fuse_lowlevel_notify_inval_inode(mount->session, id, -1, 0);
}
