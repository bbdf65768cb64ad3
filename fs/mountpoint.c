/* SPDX-License-Identifier: BSD-2-Clause */
#include "mountpoint.h"

#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "log.h"
#include "store/util.h"

/* One line of /proc/self/mountinfo, see proc(5). The texts are in the line itself. */
struct line {
    dev_t device;
    char *path, *type, *source;
};

struct table {
    FILE *file;
    char *buffer; /* of getline(), as large as `room` */
    size_t room;
    char *kept; /* an earlier line */
};

static void table_close(struct table *table)
{
    if (table->file != NULL)
        fclose(table->file);
    free(table->buffer);
    free(table->kept);
}

#define cleanup_table cleanup(table_close)

/* Spaces and the like are written as \040, three octal digits. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        unsigned value;
        if (from[0] == '\\' && sscanf(from + 1, "%3o", &value) == 1) {
            *to++ = (char)value;
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* The next blank-separated word of *rest, "" at the end. */
static char *word(char **rest)
{
    char *text = *rest;
    *rest += strcspn(text, " \n");
    if (**rest != '\0')
        *(*rest)++ = '\0';
    return text;
}

static bool table_next(struct table *table, struct line *line)
{
    if (getline(&table->buffer, &table->room, table->file) < 0)
        return false;
    char *rest = table->buffer;
    word(&rest); /* mount id */
    word(&rest); /* of its parent */
    unsigned major = 0, minor = 0;
    sscanf(word(&rest), "%u:%u", &major, &minor);
    line->device = makedev(major, minor);
    word(&rest); /* the part of the filesystem that is mounted */
    line->path = word(&rest);
    while (*rest != '\0' && strcmp(word(&rest), "-") != 0)
        ; /* options, in number unknown */
    line->type = word(&rest);
    line->source = word(&rest);
    unescape(line->path);
    unescape(line->source);
    return true;
}

/* What is mounted on top of `path`: the last one listed. The texts live in the table. */
static bool find_top(struct table *table, const char *path, struct line *top)
{
    bool found = false;
    struct line line;
    while (table_next(table, &line)) {
        if (strcmp(line.path, path) != 0)
            continue;
        free(table->kept);
        table->kept = steal_pointer(&table->buffer);
        table->room = 0;
        *top = line;
        found = true;
    }
    return found;
}

bool mountpoint_is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return strcmp(directory, "/") == 0 ||
           (strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0'));
}

int mountpoint_of(const char *path, char **point, char **source)
{
    cleanup_table struct table table = {.file = fopen("/proc/self/mountinfo", "re")};
    cleanup_free char *best = strdup(""), *type = NULL;
    struct line line;
    *point = *source = NULL;
    if (table.file == NULL || best == NULL)
        return -errno;
    while (table_next(&table, &line)) {
        if (!mountpoint_is_below(path, line.path) || strlen(line.path) < strlen(best))
            continue; /* of several in one place, the last one is on top */
        free(best), free(type), free(*source);
        best = strdup(line.path);
        type = strdup(line.type);
        *source = strdup(line.source);
        if (best == NULL || type == NULL || *source == NULL) {
            free(steal_pointer(source));
            return -ENOMEM;
        }
    }
    if (type == NULL || strcmp(type, MOUNTPOINT_TYPE) != 0) {
        free(steal_pointer(source));
        return -ENOENT;
    }
    *point = steal_pointer(&best);
    return 0;
}

/* Errors of every call on a mount whose daemon is gone, or was cut off; the last is that of a
 * request that was on its way to it by a ring. */
static bool is_dead(int error)
{
    return error == ENOTCONN || error == ECONNABORTED || error == ECANCELED;
}

/* Of what leads to the last component, without looking at that. */
static char *resolve_parent(const char *path)
{
    char *whole = NULL;
    cleanup_free char *copy = strdup(path);
    if (copy == NULL)
        return NULL;
    for (size_t end = strlen(copy); end > 1 && copy[end - 1] == '/'; end--)
        copy[end - 1] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash == NULL ? copy : slash + 1;
    if (slash != NULL)
        *slash = '\0';
    const char *above = slash == NULL ? "." : slash == copy ? "/" : copy;
    cleanup_free char *parent = realpath(above, NULL);
    if (parent == NULL)
        return NULL;
    if (asprintf(&whole, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
        return NULL;
    return whole;
}

char *mountpoint_resolve(const char *path)
{
    char *whole = realpath(path, NULL);
    return whole != NULL || !is_dead(errno) ? whole : resolve_parent(path);
}

char *mountpoint_resolve_new(const char *path)
{
    char *whole = realpath(path, NULL);
    return whole != NULL || errno != ENOENT ? whole : resolve_parent(path);
}

/* What is wrong with using `path`, an errno. The kernel may know the attributes of a mount whose
 * daemon is gone, but never answers statfs(2) by itself. */
static int probe(const char *path, bool ours, struct stat *st)
{
    struct statfs fs;
    return stat(path, st) < 0 || (ours && statfs(path, &fs) < 0) ? errno : 0;
}

/* Judge `path`, knowing what is mounted there. 1: a dead mount was removed, look again. */
static int judge(const char *path, char why[STORE_WHY_MAX])
{
    cleanup_table struct table table = {.file = fopen("/proc/self/mountinfo", "re")};
    struct line top;
    bool ours = table.file != NULL && find_top(&table, path, &top) &&
                strcmp(top.type, MOUNTPOINT_TYPE) == 0;
    struct stat st;
    int error = probe(path, ours, &st);
    if (is_dead(error) && ours) {
        int r = mountpoint_detach(path, top.device);
        if (r < 0)
            snprintf(why, STORE_WHY_MAX,
                     "%s is the mount of a daemon that has died, and can't be unmounted: %s", path,
                     strerror(-r));
        else
            log_line(LOG_WARNING, "unmounted %s, whose daemon had died", path);
        return r < 0 ? r : 1;
    }
    if (error != 0)
        snprintf(why, STORE_WHY_MAX, "can't mount on %s: %s%s", path, strerror(error),
                 error == ENOENT  ? "; make the directory first"
                 : is_dead(error) ? "; unmount what is dead there first"
                                  : "");
    else if (ours)
        snprintf(why, STORE_WHY_MAX, "%s is already the mount of %s; unmount it first", path,
                 top.source);
    else if (!S_ISDIR(st.st_mode))
        snprintf(why, STORE_WHY_MAX, "can't mount on %s: it is not a directory", path);
    else
        return 0;
    return error != 0 ? -error : ours ? -EBUSY : -ENOTDIR;
}

int mountpoint_prepare(const char *path, char why[STORE_WHY_MAX])
{
    int r;
    do
        r = judge(path, why);
    while (r == 1);
    return r;
}

dev_t mountpoint_device(const char *path)
{
    cleanup_table struct table table = {.file = fopen("/proc/self/mountinfo", "re")};
    struct line top;
    return table.file != NULL && find_top(&table, path, &top) ? top.device : 0;
}

bool mountpoint_device_in_use(dev_t device)
{
    cleanup_table struct table table = {.file = fopen("/proc/self/mountinfo", "re")};
    struct line line;
    while (table.file != NULL && table_next(&table, &line)) {
        if (line.device == device)
            return true;
    }
    return table.file == NULL;
}

/* Who is not root may unmount what he mounted with the help of a set-uid program. */
static int fusermount(const char *path)
{
    const char *const argv[] = {"fusermount3", "-u", "-z", "-q", "--", path, NULL};
    pid_t pid;
    int error = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
    if (error != 0)
        return -error;
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mountpoint_detach(const char *path, dev_t device)
{
    if (mountpoint_device(path) != device)
        return 0;
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    return errno == EPERM ? fusermount(path) : -errno;
}
