/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_taken.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "host.h"
#include "log.h"
#include "node.h"
#include "store/util.h"

#define TAKEN_NAME ".taken"
#define STAGED_SUFFIX ".staged"
#define TAG_DIGITS 16

struct taken_name taken_group_name(uint64_t sequence)
{
    struct taken_name name;
    snprintf(name.text, sizeof(name.text), "%016" PRIx64, sequence);
    return name;
}

struct taken_name taken_unit_name(unsigned unit)
{
    struct taken_name name;
    snprintf(name.text, sizeof(name.text), "%08x", unit);
    return name;
}

static struct taken_name host_name(uint64_t sequence, bool staged)
{
    struct taken_name name;
    snprintf(name.text, sizeof(name.text), "%016" PRIx64 "%s", sequence,
             staged ? STAGED_SUFFIX : "");
    return name;
}

/* A number of so many hex digits; *end is what follows. */
static bool parse_hex(const char *text, int digits, uint64_t *value, const char **end)
{
    char *stop;
    *value = strtoull(text, &stop, 16);
    *end = stop;
    return stop == text + digits && text[0] != '-' && text[0] != '+' && text[0] != ' ';
}

/* -------------------------------------------------------------------- tags -- */

struct tags {
    struct store *store;
    uint64_t tag;     /* whose directory is in the store, */
    uint64_t staging; /* with this id; 0: none */
    unsigned others;
};

static struct taken_name staging_name(uint64_t tag)
{
    struct taken_name name;
    snprintf(name.text, sizeof(name.text), NODE_HIDDEN_PREFIX "%016" PRIx64, tag);
    return name;
}

static int look_at_tag(void *arg, const char *name)
{
    struct tags *tags = arg;
    uint64_t tag;
    const char *end;
    if (!parse_hex(name, TAG_DIGITS, &tag, &end) || *end != '\0')
        return 0;
    struct store_attr attr;
    int r = store_lookup(tags->store, STORE_STAGING_ID, staging_name(tag).text, &attr);
    if (r == 0 && S_ISDIR(attr.mode)) {
        tags->tag = tag;
        tags->staging = attr.id;
    } else if (r == -ENOENT) {
        tags->others++;
    }
    return r == -ENOENT ? 0 : r;
}

/* First the store's half: without the other it is only empty. */
static int make_tag(struct taken *taken, int all, struct tags *tags)
{
    const struct store_owner owner = {0700, geteuid(), getegid()};
    struct store_attr attr;
    if (getrandom(&tags->tag, sizeof(tags->tag), 0) != sizeof(tags->tag))
        return -EAGAIN;
    int r =
        store_mkdir(taken->store, STORE_STAGING_ID, staging_name(tags->tag).text, &owner, &attr);
    tags->staging = attr.id;
    if (r == 0)
        r = store_sync(taken->store);
    if (r == 0 && mkdirat(all, host_name(tags->tag, false).text, 0700) < 0)
        r = -errno;
    return r;
}

static int open_tag(struct taken *taken, int all, struct tags *tags)
{
    int r = host_list(all, look_at_tag, tags);
    if (r == 0 && tags->staging == 0)
        r = make_tag(taken, all, tags);
    if (r < 0)
        return r;
    taken->staging = tags->staging;
    taken->fd = host_own_directory(all, host_name(tags->tag, false).text, 0700);
    return taken->fd < 0 ? taken->fd : 0;
}

int taken_open(struct taken *taken, struct store *store, int inbox, char why[STORE_WHY_MAX])
{
    *taken = (struct taken){.store = store, .inbox = inbox, .fd = -1};
    struct tags tags = {.store = store};
    cleanup_fd int all = host_own_directory(inbox, TAKEN_NAME, 0700);
    int r = all < 0 ? all : open_tag(taken, all, &tags);
    if (r < 0)
        snprintf(why, STORE_WHY_MAX, "can't use " TAKEN_NAME " in the inbox: %s",
                 r == -EPERM ? "it must be ours, and nobody else may write in it" : strerror(-r));
    else if (tags.others > 0)
        log_line(LOG_WARNING,
                 "inbox: in " TAKEN_NAME " there is what was taken for another store, or for this "
                 "one before it was made anew; it is left alone");
    return r;
}

void taken_close(struct taken *taken)
{
    cleanup_fd_p(&taken->fd);
    taken->fd = -1;
}

/* ------------------------------------------------------------------ groups -- */

struct list {
    uint64_t *sequences;
    size_t count, room;
};

static int add_sequence(void *arg, const char *name)
{
    struct list *list = arg;
    uint64_t sequence;
    const char *end;
    if (!parse_hex(name, 16, &sequence, &end) || (*end != '\0' && strcmp(end, STAGED_SUFFIX) != 0))
        return 0;
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        uint64_t *larger = reallocarray(list->sequences, room, sizeof(*larger));
        if (larger == NULL)
            return -ENOMEM;
        list->sequences = larger;
        list->room = room;
    }
    list->sequences[list->count++] = sequence;
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return one < other ? -1 : one > other;
}

int taken_list(struct taken *taken, uint64_t **sequences, size_t *count)
{
    struct list list = {0};
    int r = host_list(taken->fd, add_sequence, &list);
    if (r < 0) {
        free(list.sequences);
        return r;
    }
    if (list.count > 0) {
        qsort(list.sequences, list.count, sizeof(*list.sequences), compare);
        if (list.sequences[list.count - 1] > taken->last)
            taken->last = list.sequences[list.count - 1];
    }
    *sequences = list.sequences;
    *count = list.count;
    return 0;
}

/* There may be gaps between the numbers: the next one comes after all. */
static int count_unit(void *arg, const char *name)
{
    struct taken_group *group = arg;
    uint64_t unit;
    const char *end;
    if (!parse_hex(name, 8, &unit, &end) || *end != '\0')
        return 0;
    group->count++;
    if (unit >= group->units)
        group->units = (unsigned)unit + 1;
    return 0;
}

int taken_find(struct taken *taken, uint64_t sequence, struct taken_group *group)
{
    *group = (struct taken_group){.sequence = sequence};
    group->fd = host_open_directory(taken->fd, host_name(sequence, false).text);
    if (group->fd == -ENOENT) {
        group->fd = host_open_directory(taken->fd, host_name(sequence, true).text);
        group->staged = true;
    }
    return group->fd < 0 ? group->fd : host_list(group->fd, count_unit, group);
}

/* The clock, so that a number isn't used again, not even when the disk forgets our last steps. */
int taken_begin(struct taken *taken, struct taken_group *group)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t sequence = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (sequence <= taken->last)
        sequence = taken->last + 1;
    *group = (struct taken_group){.sequence = sequence, .fd = -1};
    if (mkdirat(taken->fd, host_name(sequence, false).text, 0700) < 0)
        return -errno;
    taken->last = sequence;
    group->fd = host_open_directory(taken->fd, host_name(sequence, false).text);
    return group->fd < 0 ? group->fd : 0;
}

void taken_end(struct taken *taken, struct taken_group *group)
{
    cleanup_fd_p(&group->fd);
    group->fd = -1;
    if (!group->staged) /* fails if there is something in it */
        (void)unlinkat(taken->fd, host_name(group->sequence, false).text, AT_REMOVEDIR);
}

static int move_in(struct taken *taken, int unit, const char *path)
{
    const char *name;
    cleanup_fd int from = host_open_parent(taken->inbox, path, &name);
    if (from < 0)
        return from;
    cleanup_fd int to = host_copy_parents(taken->inbox, path, unit, &name);
    if (to < 0)
        return to;
    return renameat2(from, name, to, name, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int taken_add(struct taken *taken, struct taken_group *group, const char *path)
{
    struct taken_name name = taken_unit_name(group->units);
    if (mkdirat(group->fd, name.text, 0700) < 0)
        return -errno;
    cleanup_fd int unit = host_open_directory(group->fd, name.text);
    int r = unit < 0 ? unit : move_in(taken, unit, path);
    if (r < 0)
        (void)host_remove_tree(group->fd, name.text);
    else
        group->units++;
    return r;
}

int taken_again(struct taken_group *group, unsigned unit)
{
    if (renameat(group->fd, taken_unit_name(unit).text, group->fd,
                 taken_unit_name(group->units).text) < 0)
        return -errno;
    group->units++;
    return 0;
}

int taken_split(struct taken *taken, struct taken_group *group)
{
    int r = 0;
    for (unsigned i = 0; group->count > 1 && i < group->units && r == 0; i++) {
        struct taken_group single;
        r = taken_begin(taken, &single);
        if (r == 0 &&
            renameat(group->fd, taken_unit_name(i).text, single.fd, taken_unit_name(0).text) == 0)
            single.units = 1;
        else if (r == 0 && errno != ENOENT)
            r = -errno;
        taken_end(taken, &single);
    }
    return r;
}

/*
 * What was moved must have left the inbox durably as well, or it would be found there once more
 * after a power cut.
 */
int taken_mark(struct taken *taken, struct taken_group *group)
{
    struct taken_name before = host_name(group->sequence, false);
    struct taken_name after = host_name(group->sequence, true);
    if (fsync(group->fd) < 0 || fsync(taken->inbox) < 0 ||
        renameat(taken->fd, before.text, taken->fd, after.text) < 0 || fsync(taken->fd) < 0)
        return -errno;
    group->staged = true;
    return 0;
}

int taken_remove(struct taken *taken, struct taken_group *group)
{
    return host_remove_tree(taken->fd, host_name(group->sequence, group->staged).text);
}
