/* SPDX-License-Identifier: BSD-2-Clause */
/* export_file.c: content out of the store, verified on the way. */
#include <fcntl.h>
#include <sys/stat.h>

#include "export.h"
#include "extent.h"
#include "observe.h"
#include "output.h"

/* ---------------------------------------------------------------- content -- */

/* A read gave an error or the wrong bytes: is the record damaged (-EIO), or was it removed under
 * us? A record that is there now was there all the time, since ids are never given out twice. */
static int explain_bad_read(struct exporting *export, const struct store_attr *attr)
{
    struct store_attr now;
    int r = store_getattr(export->store, attr->id, &now);
    if (r == -ENOENT || (r == 0 && now.nlink == 0))
        return EXPORT_CHANGED;
    return -EIO;
}

static bool hash_matches(const struct exporting *export, const struct store_attr *attr)
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
static int copy(struct exporting *export, const struct store_attr *attr, int fd, bool *host)
{
    struct store_work now = *export->work;
    uint64_t offset = 0;
    *host = false;
    XXH3_128bits_reset(export->hash);
    while (!attr->sealed || offset < attr->size) {
        ssize_t n =
            store_read(export->store, attr->id, export->buffer, EXPORT_COPY_BYTES, (off_t)offset);
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

static int export_file(struct exporting *export, const struct target *target)
{
    struct output output = {.dir_fd = target->dir_fd, .name = target->name};
    cleanup_fd int fd = output_make(&output, create, NULL);
    if (fd < 0)
        return export_host_error(export, target->dir, target->name, fd);
    bool host = true;
    int r = copy(export, &target->attr, fd, &host);
    if (r == 0) {
        host = true;
        r = export_set_attributes(export, fd, &target->attr);
    }
    struct stat st;
    uint64_t size = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    if (r < 0)
        output_discard(&output);
    else
        r = output_keep(&output);
    if (r < 0)
        return r == EXPORT_CHANGED ? r
               : host              ? export_host_error(export, target->dir, target->name, r)
                                   : export_store_error(export, target->dir, target->name, r);
    export->work->bytes += size;
    export_done(export, target);
    return 0;
}

static int set_link_attributes(const struct exporting *export, int dir_fd, const char *name,
                               const struct store_attr *attr)
{
    const struct timespec times[2] = {attr->atime, attr->mtime};
    if (export->root && fchownat(dir_fd, name, attr->uid, attr->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int create_symlink(void *text, int dir_fd, const char *name)
{
    return symlinkat(text, dir_fd, name) < 0 ? -errno : 0;
}

static int export_symlink(struct exporting *export, const struct target *target)
{
    const struct store_attr *attr = &target->attr;
    ssize_t n = store_read(export->store, attr->id, export->buffer, STORE_SYMLINK_MAX + 1, 0);
    XXH3_128bits_reset(export->hash);
    XXH3_128bits_update(export->hash, export->buffer, n > 0 ? (size_t)n : 0);
    if (n < 0 || !hash_matches(export, attr)) {
        int r = explain_bad_read(export, attr);
        return r == EXPORT_CHANGED ? r : export_store_error(export, target->dir, target->name, r);
    }
    export->buffer[n] = '\0';
    struct output output = {.dir_fd = target->dir_fd, .name = target->name};
    int r = output_make(&output, create_symlink, export->buffer);
    if (r < 0)
        return export_host_error(export, target->dir, target->name, r);
    r = set_link_attributes(export, output.dir_fd, output_name(&output), attr);
    if (r < 0)
        output_discard(&output);
    else
        r = output_keep(&output);
    if (r < 0)
        return export_host_error(export, target->dir, target->name, r);
    export_done(export, target);
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
static int export_link(struct exporting *export, const struct target *target,
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
        export_done(export, target);
    return r;
}

int export_content(struct exporting *export, const struct target *target)
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
        return export_host_error(export, target->dir, target->name, -ENOMEM);
    return r;
}
