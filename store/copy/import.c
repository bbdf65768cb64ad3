/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import.c: a tree of host files into the store.
 *
 * Directory by directory, breadth first, the names of each in the order of their places: so entries
 * are appended in the order of their keys, and a listing, ids and content on disk all have the same
 * order. Names and small files gather in a batch while the one before is being committed; large
 * files are written first and join the batch as a content that is there.
 */
#include "import.h"

#include <fcntl.h>
#include <stdio.h>

#include "ahead.h"
#include "entry.h"
#include "observe.h"
#include "path.h"
#include "record.h"

/* --------------------------------------------------------------- messages -- */

static void tell(struct importing *import, struct walk_dir *dir, const char *name, const char *text)
{
    cleanup_free char *path = walk_path(&import->walk, dir, name);
    observe_message(import->observer, path == NULL ? "?" : path, "%s", text);
}

int import_skip(struct importing *import, struct walk_dir *dir, const char *name, const char *text)
{
    tell(import, dir, name, text);
    import->work->skipped++;
    return 0;
}

int import_miss(struct importing *import, struct walk_dir *dir, const char *name, const char *text)
{
    import->work->problems++;
    return import_skip(import, dir, name, text);
}

int import_source_error(struct importing *import, struct walk_dir *dir, const char *name, int error)
{
    switch (-error) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        tell(import, dir, name, strerror(-error));
        return error;
    case ENOENT:
        return import_skip(import, dir, name, "vanished during the import; skipped");
    case ENODATA:
        return import_miss(import, dir, name, "became shorter while it was read; skipped");
    case ELOOP:
    case ENOTDIR:
        return import_miss(import, dir, name, "became something else during the import; skipped");
    case EACCES:
        return import_miss(import, dir, name, "no permission to read it; skipped");
    default: {
        char text[STORE_WHY_MAX];
        snprintf(text, sizeof(text), "%s; skipped", strerror(-error));
        return import_miss(import, dir, name, text);
    }
    }
}

int import_write_error(struct importing *import, int error)
{
    observe_message(import->observer, import->walk.path, "cannot write to the store: %s; %s",
                    strerror(-error), "what was imported so far stays");
    return error;
}

void import_progress(struct importing *import, uint64_t bytes_more)
{
    struct store_work done = *import->work, all;
    done.bytes += bytes_more;
    count_get(import->count, &all);
    observe_progress(import->observer, &done, &all);
}

/* ------------------------------------------------------------------ items -- */

/* It is durable, or could not be put there. */
static void settle_item(void *arg, const struct batch_item *item)
{
    struct importing *import = arg;
    struct store_work *work = import->work;
    switch (-item->result) {
    case 0:
        work->directories += item->kind == BATCH_DIRECTORY;
        work->files += item->kind != BATCH_DIRECTORY;
        work->bytes +=
            item->kind == BATCH_FILE && S_ISREG(item->record.mode) ? item->record.size : 0;
        break;
    case ECANCELED: /* of its directory was told */
        work->skipped++;
        break;
    case EISDIR:
        import_miss(import, item->parent, item->name,
                    "the store has a directory of this name; skipped");
        break;
    default:
        import_miss(import, item->parent, item->name,
                    "the store has something else than a directory of this name; skipped");
        break;
    }
    import_progress(import, 0);
}

int import_add(struct importing *import, const struct source *source, enum batch_kind kind,
               size_t payload_size, struct batch_item **item)
{
    int r = pipeline_add(&import->pipeline, kind, source->dir, source->name, payload_size, item);
    if (r < 0)
        return import_write_error(import, r);
    (*item)->record = batch_record(&source->st);
    return 0;
}

/* -------------------------------------------------------------- directories -- */

static int import_directory(struct importing *import, const struct source *source)
{
    if (source->st.st_dev == import->store_dev && source->st.st_ino == import->store_ino)
        return import_skip(import, source->dir, source->name, "this is the store itself; skipped");
    struct batch_item *item;
    int r = import_add(import, source, BATCH_DIRECTORY, 0, &item);
    if (r < 0)
        return r;
    struct walk_dir *child = walk_add(&import->walk, source->dir, source->name, false);
    if (child == NULL) {
        pipeline_take_back(&import->pipeline);
        return import_source_error(import, source->dir, source->name, -ENOMEM);
    }
    item->child = walk_hold(child);
    return 0;
}

static const char *kind_of(mode_t mode)
{
    return S_ISFIFO(mode)   ? "a fifo; skipped, a store has no such files"
           : S_ISSOCK(mode) ? "a socket; skipped, a store has no such files"
                            : "a device; skipped, a store has no such files";
}

static int import_name(struct importing *import, struct source *source, unsigned char type)
{
    bool top = source->dir->parent == NULL && source->dir->id == STORE_ROOT_ID;
    if (top && strcmp(source->name, STORE_CONTROL_NAME) == 0)
        return import_skip(import, source->dir, source->name,
                           "this name is reserved in the root of a store; skipped");
    if (type == DT_REG)
        return import_file(import, source);
    if (fstatat(source->dir_fd, source->name, &source->st, AT_SYMLINK_NOFOLLOW) < 0)
        return import_source_error(import, source->dir, source->name, -errno);
    switch (source->st.st_mode & S_IFMT) {
    case S_IFREG:
        return import_file(import, source);
    case S_IFDIR:
        return import_directory(import, source);
    case S_IFLNK:
        return import_symlink(import, source);
    default:
        return import_skip(import, source->dir, source->name, kind_of(source->st.st_mode));
    }
}

static int import_names(struct importing *import, struct walk_dir *dir)
{
    if (dir->failed)
        return 0;
    cleanup_fd int fd = walk_open(&import->walk, dir);
    if (fd < 0)
        return import_source_error(import, dir, NULL, fd);
    int r = walk_list(fd, &import->names);
    if (r < 0)
        return import_source_error(import, dir, NULL, r);
    cleanup_ahead struct ahead ahead;
    ahead_start(&ahead, fd, &import->names);
    for (size_t i = 0; i < import->names.count && r == 0; i++) {
        const struct walk_name *name = &import->names.list[i];
        struct source source = {dir, fd, import->names.text + name->offset, &ahead, i, {0}};
        r = observe_stop(import->observer) ? -EINTR : import_name(import, &source, name->type);
    }
    return r;
}

static int import_tree(struct importing *import)
{
    int r = 0;
    struct walk_dir *dir;
    while (r == 0 && (dir = walk_next(&import->walk)) != NULL) {
        r = import_names(import, dir);
        walk_release(dir);
    }
    if (r == 0 || r == -EINTR) { /* what was read so far is worth keeping when interrupted */
        int last = pipeline_flush(&import->pipeline);
        return last < 0 ? import_write_error(import, last) : r;
    }
    return r;
}

/* --------------------------------------------------------------------- top -- */

/* The attributes of the tree's own directory: a destination that is new or empty gets them, another
 * one is only changed now. */
static int set_top(struct store *store, uint64_t id, bool fresh, const struct stat *st)
{
    struct store_attr attr = {
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .atime = st->st_atim,
        .mtime = st->st_mtim,
    };
    if (!fresh)
        clock_gettime(CLOCK_REALTIME, &attr.mtime);
    unsigned all =
        STORE_SET_MODE | STORE_SET_UID | STORE_SET_GID | STORE_SET_ATIME | STORE_SET_MTIME;
    return store_setattr(store, id, fresh ? all : STORE_SET_MTIME, &attr, &attr);
}

static int is_empty(struct store *store, uint64_t id)
{
    cleanup_view struct view view = {0};
    int r = view_open_committed(store, &view);
    return r < 0 ? r : entry_none(store, &view, id);
}

static int find_top(struct importing *import, const char *to, const struct stat *st)
{
    struct store *store = import->store;
    struct store_attr attr;
    bool made;
    int r = path_make(store, to, import->observer, &attr, &made);
    if (r < 0)
        return r;
    int empty = made ? 1 : is_empty(store, attr.id);
    r = empty < 0 ? empty : set_top(store, attr.id, empty > 0, st);
    import->walk.top->id = attr.id;
    import->walk.top->fresh = empty > 0;
    return r < 0 ? import_write_error(import, r) : 0;
}

static int begin(struct importing *import, const char *from, const char *to)
{
    struct stat st, own;
    int fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || fstat(import->store->dir_fd, &own) < 0) {
        int error = -errno;
        observe_message(import->observer, from, "cannot read it: %s%s", strerror(-error),
                        error == -ENOTDIR ? "; give the directory that holds it" : "");
        cleanup_fd_p(&fd);
        return error;
    }
    if (st.st_dev == own.st_dev && st.st_ino == own.st_ino) {
        observe_message(import->observer, from, "this is the store itself");
        (void)close(fd);
        return -EINVAL;
    }
    import->store_dev = own.st_dev;
    import->store_ino = own.st_ino;
    if (import->observer != NULL && import->observer->progress != NULL)
        import->count = count_start(fd);
    int r = walk_start(&import->walk, from, fd);
    return r < 0 ? import_write_error(import, r) : find_top(import, to, &st);
}

static void end(struct importing *import)
{
    count_stop(import->count);
    pipeline_end(&import->pipeline);
    walk_end(&import->walk);
    walk_names_free(&import->names);
    shared_free(&import->shared);
}

int store_import(struct store *store, const char *from, const char *to,
                 const struct store_observer *observer, struct store_work *work)
{
    struct importing import = {.store = store, .observer = observer, .work = work};
    *work = (struct store_work){0};
    int r =
        store->read_only ? -EROFS : pipeline_init(&import.pipeline, store, settle_item, &import);
    if (r < 0)
        observe_message(observer, from, "cannot import: %s", strerror(-r));
    else
        r = begin(&import, from, to);
    if (r == 0)
        r = import_tree(&import);
    end(&import);
    return r;
}
