/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.c: a tree of the store into host files.
 *
 * Directory by directory, each with all below it before the next. No transaction lasts longer than
 * one look-up, listing step or read, so a writer is never held up. It may therefore replace,
 * meanwhile, what is being read; the hash shows that, and the new version is taken instead.
 */
#include "export.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "observe.h"
#include "path.h"

/* Names to list in one transaction. */
#define LIST_STEP 256

/* A file that is replaced again and again while it is read is given up. */
#define ATTEMPTS 10

/* --------------------------------------------------------------- messages -- */

static void tell(struct exporting *export, const struct walk_dir *dir, const char *name,
                 const char *text)
{
    cleanup_free char *path = walk_path(&export->walk, dir, name);
    observe_message(export->observer, path == NULL ? "?" : path, "%s", text);
}

int export_miss(struct exporting *export, const struct walk_dir *dir, const char *name,
                const char *text)
{
    tell(export, dir, name, text);
    export->work->skipped++;
    export->work->problems++;
    return 0;
}

int export_host_error(struct exporting *export, const struct walk_dir *dir, const char *name,
                      int error)
{
    char text[STORE_WHY_MAX];
    switch (-error) {
    case EINTR:
        return error;
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        snprintf(text, sizeof(text), "cannot write it: %s", strerror(-error));
        tell(export, dir, name, text);
        return error;
    case EISDIR:
        return export_miss(export, dir, name, "a directory is in the way; skipped");
    default:
        snprintf(text, sizeof(text), "cannot write it: %s; skipped", strerror(-error));
        return export_miss(export, dir, name, text);
    }
}

int export_store_error(struct exporting *export, const struct walk_dir *dir, const char *name,
                       int error)
{
    if (error == -EINTR)
        return error;
    char text[STORE_WHY_MAX];
    snprintf(text, sizeof(text), "%s; not exported",
             error == -EIO             ? "damaged in the store, see lmdbfs check"
             : error == EXPORT_CHANGED ? "is replaced all the time"
                                       : strerror(-error));
    return export_miss(export, dir, name, text);
}

void export_done(struct exporting *export, const struct target *target)
{
    struct store_work *work = export->work;
    work->directories += S_ISDIR(target->attr.mode);
    work->files += !S_ISDIR(target->attr.mode);
    observe_progress(export->observer, work, &export->all);
}

/* ------------------------------------------------------------- attributes -- */

/* Who can't give a file to its owner must not give it that owner's powers. */
static mode_t mode_for(const struct exporting *export, const struct store_attr *attr)
{
    bool ours = attr->uid == geteuid() && attr->gid == getegid();
    return attr->full_mode & (export->root || ours ? 07777 : 01777);
}

int export_set_attributes(const struct exporting *export, int fd, const struct store_attr *attr)
{
    const struct timespec times[2] = {attr->atime, attr->mtime};
    if (export->root && fchown(fd, attr->uid, attr->gid) < 0)
        return -errno;
    return fchmod(fd, mode_for(export, attr)) < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

/* -------------------------------------------------------------- directories -- */

static int export_directory(struct exporting *export, const struct target *target)
{
    struct stat st;
    bool made = mkdirat(target->dir_fd, target->name, 0700) == 0;
    if (!made && errno != EEXIST)
        return export_host_error(export, target->dir, target->name, -errno);
    if (!made && fstatat(target->dir_fd, target->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return export_host_error(export, target->dir, target->name, -errno);
    if (!made && !S_ISDIR(st.st_mode))
        return export_miss(export, target->dir, target->name,
                           "something else than a directory is in the way; skipped");
    struct walk_dir *child = walk_add(&export->walk, target->dir, target->name, true);
    if (child == NULL)
        return export_host_error(export, target->dir, target->name, -ENOMEM);
    child->id = target->attr.id;
    child->fresh = true;
    export_done(export, target);
    return 0;
}

/* All in it has been done: now its times and permissions can be those of the original. */
static int finish_directory(struct exporting *export, struct walk_dir *dir)
{
    struct store_attr attr;
    if (!dir->fresh || store_getattr(export->store, dir->id, &attr) < 0)
        return 0;
    cleanup_fd int fd = walk_open(&export->walk, dir);
    int r = fd < 0 ? fd : export_set_attributes(export, fd, &attr);
    return r < 0 ? export_host_error(export, dir, NULL, r) : 0;
}

static int finish(struct exporting *export, struct walk_dir *dir)
{
    int r = 0;
    for (; r == 0 && dir != NULL && --dir->unfinished == 0; dir = dir->parent)
        r = finish_directory(export, dir);
    return r;
}

static int export_name(struct exporting *export, struct target *target)
{
    int r = EXPORT_CHANGED;
    for (int attempt = 0; r == EXPORT_CHANGED && attempt < ATTEMPTS; attempt++) {
        r = store_lookup(export->store, target->dir->id, target->name, &target->attr);
        if (r == -ENOENT)
            return 0; /* removed since it was listed */
        if (r < 0)
            return export_store_error(export, target->dir, target->name, r);
        r = S_ISDIR(target->attr.mode) ? export_directory(export, target)
                                       : export_content(export, target);
    }
    return r == EXPORT_CHANGED ? export_store_error(export, target->dir, target->name, r) : r;
}

struct listing {
    char names[LIST_STEP][STORE_NAME_MAX + 1];
    int count;
    off_t next;
};

static bool list_name(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                      const struct store_attr *attr)
{
    (void)id, (void)type, (void)attr;
    struct listing *listing = arg;
    if (listing->count == LIST_STEP)
        return false;
    strcpy(listing->names[listing->count++], name);
    listing->next = next;
    return true;
}

static int export_names(struct exporting *export, struct walk_dir *dir, int fd)
{
    cleanup_free struct listing *listing = calloc(1, sizeof(*listing));
    if (listing == NULL)
        return export_host_error(export, dir, NULL, -ENOMEM);
    do {
        listing->count = 0;
        int r = store_readdir(export->store, dir->id, listing->next, false, list_name, listing);
        if (r < 0 && r != -ENOENT)
            return export_store_error(export, dir, NULL, r);
        for (int i = 0; i < listing->count; i++) {
            struct target target = {.dir = dir, .dir_fd = fd, .name = listing->names[i]};
            r = observe_stop(export->observer) ? -EINTR : export_name(export, &target);
            if (r < 0)
                return r;
        }
    } while (listing->count == LIST_STEP);
    return 0;
}

static int export_tree(struct exporting *export)
{
    int r = 0;
    struct walk_dir *dir;
    while (r == 0 && (dir = walk_next(&export->walk)) != NULL) {
        cleanup_fd int fd = walk_open(&export->walk, dir);
        r = fd < 0 ? export_host_error(export, dir, NULL, fd) : export_names(export, dir, fd);
        if (r == 0)
            r = finish(export, dir);
        walk_release(dir);
        memory_trim(&export->memory, export->store);
    }
    return r;
}

/* --------------------------------------------------------------------- top -- */

static int open_top(struct exporting *export, const char *to, mode_t mode, bool *made)
{
    *made = mkdir(to, mode) == 0;
    int fd = *made || errno == EEXIST ? open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int r = fd < 0 ? -errno : walk_start(&export->walk, to, fd);
    if (r < 0)
        observe_message(export->observer, to, "cannot export into it: %s", strerror(-r));
    return r;
}

/* Of the whole store, which says nothing about a part. */
static void guess_all(struct exporting *export, const struct store_attr *top)
{
    struct store_stat stat;
    bool wanted = export->observer != NULL && export->observer->progress != NULL;
    if (!wanted || top->id != STORE_ROOT_ID || store_stat(export->store, true, &stat) < 0)
        return;
    export->all.files = stat.records;
    export->all.bytes = stat.bytes;
}

static int begin(struct exporting *export, const char *from, const char *to)
{
    struct target target;
    char name[STORE_NAME_MAX + 1];
    uint64_t parent;
    bool made = false;
    int r = path_find(export->store, from, export->observer, &target.attr, &parent, name);
    if (r == 0)
        /* For a tree nobody else looks in before its permissions are set. */
        r = open_top(export, to, S_ISDIR(target.attr.mode) ? 0700 : 0777, &made);
    if (r < 0)
        return r;
    struct walk_dir *top = export->walk.top;
    guess_all(export, &target.attr);
    if (S_ISDIR(target.attr.mode)) {
        top->id = target.attr.id;
        top->fresh = made;
        return export_tree(export);
    }
    top->id = parent;
    target.dir = top;
    target.dir_fd = top->fd;
    target.name = name;
    return export_name(export, &target);
}

int store_export(struct store *store, const char *from, const char *to,
                 const struct store_observer *observer, struct store_work *work)
{
    struct exporting export = {
        .store = store, .observer = observer, .work = work, .root = geteuid() == 0};
    *work = (struct store_work){0};
    export.buffer = malloc(EXPORT_COPY_BYTES);
    export.hash = XXH3_createState();
    int r = export.buffer == NULL || export.hash == NULL ? -ENOMEM : 0;
    if (r < 0)
        observe_message(observer, to, "%s", strerror(-r));
    else
        r = begin(&export, from, to);
    shared_free(&export.shared);
    walk_end(&export.walk);
    XXH3_freeState(export.hash);
    free(export.buffer);
    return r;
}
