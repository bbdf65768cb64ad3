/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "opening.h"
#include "pages.h"

int refuse(const struct opening *opening, int error, const char *format, ...)
{
    char text[STORE_WHY_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(opening->why, STORE_WHY_MAX, "%.200s: %.300s", opening->path, text);
    return error;
}

static bool is_ours_or_harmless(const char *name)
{
    static const char *const known[] = {".",        "..",        DATA_FILE,   "lock.mdb",
                                        OWNER_FILE, STAGING_DIR, "lost+found"};
    for (size_t i = 0; i < array_length(known); i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return false;
}

/* Never make a store among somebody's files: they may have swapped the arguments. */
static int check_room(const struct opening *opening, int dir_fd)
{
    cleanup_fd int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return refuse(opening, -errno, "cannot list the directory: %s", strerror(errno));
    fd = -1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (!is_ours_or_harmless(entry->d_name))
            return refuse(opening, -EINVAL,
                          "not a store, and not empty (it has \"%.60s\"); give an empty or new "
                          "directory to make a store in",
                          entry->d_name);
    return 0;
}

int directory_open(const struct opening *opening, int *dir_fd)
{
    const struct store_options *options = opening->options;
    if (options->create && mkdir(opening->path, 0755) < 0 && errno != EEXIST)
        return refuse(opening, -errno, "cannot make the store's directory: %s", strerror(errno));
    *dir_fd = open(opening->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return refuse(opening, -errno,
                      errno == ENOENT    ? "there is no store here; \"lmdbfs import\" or \"lmdbfs "
                                           "mount\" makes one"
                      : errno == ENOTDIR ? "not a store: a store is a directory"
                                         : "cannot open the store: %s",
                      strerror(errno));
    return 0;
}

static int refuse_pages(const struct opening *opening, int state, off_t size)
{
    switch (state) {
    case PAGES_SOUND:
        return 0;
    case PAGES_NOT_LMDB:
        return refuse(opening, -EINVAL, DATA_FILE " is not an LMDB file; is this the right path?");
    case PAGES_OTHER_ORDER:
        return refuse(opening, -EPROTONOSUPPORT,
                      "written on a machine of the other byte order; export it there and import "
                      "the files here");
    case PAGES_OTHER_FORMAT:
        return refuse(opening, -EPROTONOSUPPORT,
                      DATA_FILE " has a data format of LMDB that this program doesn't know");
    case PAGES_MISSING:
        return refuse(opening, -EINVAL,
                      DATA_FILE " is damaged or cut off (%lld bytes); restore the store from a "
                                "backup",
                      (long long)size);
    default:
        return refuse(opening, state, "cannot read " DATA_FILE ": %s", strerror(-state));
    }
}

/* Before LMDB maps the file: afterwards closing any descriptor of it would drop LMDB's locks. */
int directory_check(const struct opening *opening, int dir_fd)
{
    cleanup_fd int fd = openat(dir_fd, DATA_FILE, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT && opening->options->create)
        return check_room(opening, dir_fd);
    if (fd < 0 && errno == ENOENT)
        return refuse(opening, -ENOENT, "not a store: there is no " DATA_FILE " in it");
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(opening, -errno, "cannot open " DATA_FILE ": %s", strerror(errno));
    if (st.st_size == 0 && opening->options->create)
        return 0; /* made and never written: LMDB starts afresh */
    return refuse_pages(opening, pages_look(fd, st.st_size), st.st_size);
}
