/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.c: a tree of the store into host files.
 *
 * Directory by directory, each with all below it before the next. No transaction lasts longer than one look-up,
 * listing step or read, so a writer is never held up. It may therefore replace, meanwhile,
 * what is being read; the hash shows that, and the new version is taken instead.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "extent.h"
#include "observe.h"
#include "output.h"
#include "path.h"
#include "private.h"
#include "shared.h"
#include "walk.h"

/* Bytes to read at once: several extents. */
#define COPY_BYTES ((size_t)1 << 20)

/* Names to list in one transaction. */
#define LIST_STEP 256

/* A file that is replaced again and again while it is read is given up. */
#define ATTEMPTS 10

/* The record that was being read is not there any more, or no longer under this name. */
#define CHANGED (-ESTALE)

struct export {
    struct store *store;
    const struct store_observer *observer;
    struct store_work *work, all;
    struct walk walk; /* over the host's directories; their ids are those of the store's */
    struct shared_set shared;
    XXH3_state_t *hash;
    char *buffer; /* COPY_BYTES */
    bool root;    /* may set owners */
};

/* A name in the store and where it goes. */
struct target {
    struct walk_dir *dir;
    int dir_fd;
    const char *name;
    struct store_attr attr;
};

/* --------------------------------------------------------------- messages -- */

static void tell(struct export *export, const struct walk_dir *dir, const char *name,
                 const char *text)
{
    cleanup_free char *path = walk_path(&export->walk, dir, name);
    observe_message(export->observer, path == NULL ? "?" : path, "%s", text);
}

static int miss(struct export *export, const struct walk_dir *dir, const char *name,
                const char *text)
{
    tell(export, dir, name, text);
    export->work->skipped++;
    export->work->problems++;
    return 0;
}

/* A system call on the host failed. Negative if it is no use to go on. */
static int host_error(struct export *export, const struct walk_dir *dir, const char *name,
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
        return miss(export, dir, name, "a directory is in the way; skipped");
    default:
        snprintf(text, sizeof(text), "cannot write it: %s; skipped", strerror(-error));
        return miss(export, dir, name, text);
    }
}

/* The store could not be read. */
static int store_error(struct export *export, const struct walk_dir *dir, const char *name,
                       int error)
{
    if (error == -EINTR)
        return error;
    char text[STORE_WHY_MAX];
    snprintf(text, sizeof(text), "%s; not exported",
             error == -EIO      ? "damaged in the store, see lmdbfs check"
             : error == CHANGED ? "is replaced all the time"
                                : strerror(-error));
    return miss(export, dir, name, text);
}

static void done(struct export *export, const struct target *target)
{
    struct store_work *work = export->work;
    work->directories += S_ISDIR(target->attr.mode);
    work->files += !S_ISDIR(target->attr.mode);
    observe_progress(export->observer, work, &export->all);
}

/* ------------------------------------------------------------- attributes -- */

/* Who can't give a file to its owner must not give it that owner's powers. */
static mode_t mode_for(const struct export *export, const struct store_attr *attr)
{
    bool ours = attr->uid == geteuid() && attr->gid == getegid();
    return attr->full_mode & (export->root || ours ? 07777 : 01777);
}

static int set_attributes(const struct export *export, int fd, const struct store_attr *attr)
{
    const struct timespec times[2] = {attr->atime, attr->mtime};
    if (export->root && fchown(fd, attr->uid, attr->gid) < 0)
        return -errno;
    return fchmod(fd, mode_for(export, attr)) < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

static int set_link_attributes(const struct export *export, int dir_fd, const char *name,
                               const struct store_attr *attr)
{
    const struct timespec times[2] = {attr->atime, attr->mtime};
    if (export->root && fchownat(dir_fd, name, attr->uid, attr->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* ---------------------------------------------------------------- content -- */

/* A read gave an error or the wrong bytes: is the record damaged (-EIO), or was it removed under us? A
 * record that is there now was there all the time, since ids are never given out twice. */
static int explain_bad_read(struct export *export, const struct store_attr *attr)
{
    struct store_attr now;
    int r = store_getattr(export->store, attr->id, &now);
    if (r == -ENOENT || (r == 0 && now.nlink == 0))
        return CHANGED;
    return -EIO;
}

static bool hash_matches(const struct export *export, const struct store_attr *attr)
{
    uint8_t hash[sizeof(attr->hash)];
    hash_finish(export->hash, hash);
    return memcmp(hash, attr->hash, sizeof(hash)) == 0;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

/* The content into `fd`. *host tells that an error is the host's. */
static int copy(struct export *export, const struct store_attr *attr, int fd, bool *host)
{
    struct store_work now = *export->work;
    uint64_t offset = 0;
    *host = false;
    XXH3_128bits_reset(export->hash);
    while (!attr->sealed || offset < attr->size) {
        ssize_t n = store_read(export->store, attr->id, export->buffer, COPY_BYTES, (off_t)offset);
        if (n < 0)
            return explain_bad_read(export, attr);
        if (n == 0)
            break;
        XXH3_128bits_update(export->hash, export->buffer, (size_t)n);
        int r = write_all(fd, export->buffer, (size_t)n);
        *host = r < 0;
        if (r < 0)
            return r;
        offset += (uint64_t)n;
        now.bytes += (uint64_t)n;
        observe_progress(export->observer, &now, &export->all);
        if (observe_stop(export->observer))
            return -EINTR;
    }
    return !attr->sealed || hash_matches(export, attr) ? 0 : explain_bad_read(export, attr);
}

/* ------------------------------------------------------------------ files -- */

static int create(void *arg, int dir_fd, const char *name)
{
    (void)arg;
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

static int export_file(struct export *export, const struct target *target)
{
    struct output output = {.dir_fd = target->dir_fd, .name = target->name};
    cleanup_fd int fd = output_make(&output, create, NULL);
    if (fd < 0)
        return host_error(export, target->dir, target->name, fd);
    bool host = true;
    int r = copy(export, &target->attr, fd, &host);
    if (r == 0) {
        host = true;
        r = set_attributes(export, fd, &target->attr);
    }
    struct stat st;
    uint64_t size = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    if (r < 0)
        output_discard(&output);
    else
        r = output_keep(&output);
    if (r < 0)
        return r == CHANGED ? r
               : host       ? host_error(export, target->dir, target->name, r)
                            : store_error(export, target->dir, target->name, r);
    export->work->bytes += size;
    done(export, target);
    return 0;
}

static int create_symlink(void *text, int dir_fd, const char *name)
{
    return symlinkat(text, dir_fd, name) < 0 ? -errno : 0;
}

static int export_symlink(struct export *export, const struct target *target)
{
    const struct store_attr *attr = &target->attr;
    ssize_t n = store_read(export->store, attr->id, export->buffer, STORE_SYMLINK_MAX + 1, 0);
    XXH3_128bits_reset(export->hash);
    XXH3_128bits_update(export->hash, export->buffer, n > 0 ? (size_t)n : 0);
    if (n < 0 || !hash_matches(export, attr)) {
        int r = explain_bad_read(export, attr);
        return r == CHANGED ? r : store_error(export, target->dir, target->name, r);
    }
    export->buffer[n] = '\0';
    struct output output = {.dir_fd = target->dir_fd, .name = target->name};
    int r = output_make(&output, create_symlink, export->buffer);
    if (r < 0)
        return host_error(export, target->dir, target->name, r);
    r = set_link_attributes(export, output.dir_fd, output_name(&output), attr);
    if (r < 0)
        output_discard(&output);
    else
        r = output_keep(&output);
    if (r < 0)
        return host_error(export, target->dir, target->name, r);
    done(export, target);
    return 0;
}

struct link {
    int dir_fd;
    const char *name;
};

static int create_link(void *arg, int dir_fd, const char *name)
{
    const struct link *link = arg;
    return linkat(link->dir_fd, link->name, dir_fd, name, 0) < 0 ? -errno : 0;
}

/* One more name for a file that was exported already. */
static int export_link(struct export *export, const struct target *target,
                       const struct shared *shared)
{
    cleanup_fd int from = walk_open(&export->walk, shared->dir);
    if (from < 0)
        return from;
    struct link link = {from, shared->name};
    struct output output = {.dir_fd = target->dir_fd, .name = target->name};
    int r = output_make(&output, create_link, &link);
    if (r == 0)
        r = output_keep(&output);
    if (r == 0)
        done(export, target);
    return r;
}

static int export_content(struct export *export, const struct target *target)
{
    const struct store_attr *attr = &target->attr;
    struct shared *shared = attr->nlink < 2 ? NULL : shared_find(&export->shared, 0, attr->id);
    if (shared != NULL) {
        if (export_link(export, target, shared) == 0)
            return 0;
        /* The host can't link it (too many names, another disk): a second copy, then. */
        shared_remove(&export->shared, shared);
    }
    uint64_t before = export->work->files;
    int r = S_ISLNK(attr->mode) ? export_symlink(export, target) : export_file(export, target);
    bool exported = export->work->files > before;
    if (exported && attr->nlink > 1 &&
        shared_add(&export->shared, 0, attr->id, target->dir, target->name) == NULL)
        return host_error(export, target->dir, target->name, -ENOMEM);
    return r;
}

/* -------------------------------------------------------------- directories -- */

static int export_directory(struct export *export, const struct target *target)
{
    struct stat st;
    bool made = mkdirat(target->dir_fd, target->name, 0700) == 0;
    if (!made && errno != EEXIST)
        return host_error(export, target->dir, target->name, -errno);
    if (!made && fstatat(target->dir_fd, target->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return host_error(export, target->dir, target->name, -errno);
    if (!made && !S_ISDIR(st.st_mode))
        return miss(export, target->dir, target->name,
                    "something else than a directory is in the way; skipped");
    struct walk_dir *child = walk_add(&export->walk, target->dir, target->name, true);
    if (child == NULL)
        return host_error(export, target->dir, target->name, -ENOMEM);
    child->id = target->attr.id;
    child->fresh = true;
    done(export, target);
    return 0;
}

/* All in it has been done: now its times and permissions can be those of the original. */
static int finish_directory(struct export *export, struct walk_dir *dir)
{
    struct store_attr attr;
    if (!dir->fresh || store_getattr(export->store, dir->id, &attr) < 0)
        return 0;
    cleanup_fd int fd = walk_open(&export->walk, dir);
    int r = fd < 0 ? fd : set_attributes(export, fd, &attr);
    return r < 0 ? host_error(export, dir, NULL, r) : 0;
}

static int finish(struct export *export, struct walk_dir *dir)
{
    int r = 0;
    for (; r == 0 && dir != NULL && --dir->unfinished == 0; dir = dir->parent)
        r = finish_directory(export, dir);
    return r;
}

static int export_name(struct export *export, struct target *target)
{
    int r = CHANGED;
    for (int attempt = 0; r == CHANGED && attempt < ATTEMPTS; attempt++) {
        r = store_lookup(export->store, target->dir->id, target->name, &target->attr);
        if (r == -ENOENT)
            return 0; /* removed since it was listed */
        if (r < 0)
            return store_error(export, target->dir, target->name, r);
        r = S_ISDIR(target->attr.mode) ? export_directory(export, target)
                                       : export_content(export, target);
    }
    return r == CHANGED ? store_error(export, target->dir, target->name, r) : r;
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

static int export_names(struct export *export, struct walk_dir *dir, int fd)
{
    cleanup_free struct listing *listing = calloc(1, sizeof(*listing));
    if (listing == NULL)
        return host_error(export, dir, NULL, -ENOMEM);
    do {
        listing->count = 0;
        int r = store_readdir(export->store, dir->id, listing->next, false, list_name, listing);
        if (r < 0 && r != -ENOENT)
            return store_error(export, dir, NULL, r);
        for (int i = 0; i < listing->count; i++) {
            struct target target = {.dir = dir, .dir_fd = fd, .name = listing->names[i]};
            r = observe_stop(export->observer) ? -EINTR : export_name(export, &target);
            if (r < 0)
                return r;
        }
    } while (listing->count == LIST_STEP);
    return 0;
}

static int export_tree(struct export *export)
{
    int r = 0;
    struct walk_dir *dir;
    while (r == 0 && (dir = walk_next(&export->walk)) != NULL) {
        cleanup_fd int fd = walk_open(&export->walk, dir);
        r = fd < 0 ? host_error(export, dir, NULL, fd) : export_names(export, dir, fd);
        if (r == 0)
            r = finish(export, dir);
        walk_release(dir);
    }
    return r;
}

/* --------------------------------------------------------------------- top -- */

static int open_top(struct export *export, const char *to, mode_t mode, bool *made)
{
    *made = mkdir(to, mode) == 0;
    int fd = *made || errno == EEXIST ? open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int r = fd < 0 ? -errno : walk_start(&export->walk, to, fd);
    if (r < 0)
        observe_message(export->observer, to, "cannot export into it: %s", strerror(-r));
    return r;
}

/* Of the whole store, which says nothing about a part. */
static void guess_all(struct export *export, const struct store_attr *top)
{
    struct store_stat stat;
    bool wanted = export->observer != NULL && export->observer->progress != NULL;
    if (!wanted || top->id != STORE_ROOT_ID || store_stat(export->store, true, &stat) < 0)
        return;
    export->all.files = stat.records;
    export->all.bytes = stat.bytes;
}

static int begin(struct export *export, const char *from, const char *to)
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
    struct export export = {
        .store = store, .observer = observer, .work = work, .root = geteuid() == 0};
    *work = (struct store_work){0};
    export.buffer = malloc(COPY_BYTES);
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
