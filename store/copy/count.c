/* SPDX-License-Identifier: BSD-2-Clause */
#include "count.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "util.h"
#include "walk.h"

struct count {
    pthread_t thread;
    struct walk walk;
    struct store_work sum; /* the thread's, until `done` */
    atomic_bool done, stop;
};

static void count_name(struct count *count, struct walk_dir *dir, int fd, const char *name,
                       unsigned char type)
{
    struct stat st = {.st_mode = DTTOIF(type)};
    bool known = type == DT_DIR || type == DT_LNK;
    if (!known && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (S_ISDIR(st.st_mode))
        (void)walk_add(&count->walk, dir, name, false);
    count->sum.files++;
    if (S_ISREG(st.st_mode))
        count->sum.bytes += (uint64_t)st.st_size;
}

static void *run(void *arg)
{
    struct count *count = arg;
    struct walk_names names = {0};
    struct walk_dir *dir;
    while (!count->stop && (dir = walk_next(&count->walk)) != NULL) {
        cleanup_fd int fd = walk_open(&count->walk, dir);
        bool listed = fd >= 0 && walk_list(fd, &names) == 0;
        for (size_t i = 0; listed && i < names.count && !count->stop; i++)
            count_name(count, dir, fd, names.text + names.list[i].offset, names.list[i].type);
        walk_release(dir);
    }
    walk_names_free(&names);
    count->done = !count->stop;
    return NULL;
}

struct count *count_start(int fd)
{
    struct count *count = calloc(1, sizeof(*count));
    int top = count == NULL ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || walk_start(&count->walk, "", top) < 0) {
        free(count);
        return NULL;
    }
    if (pthread_create(&count->thread, NULL, run, count) != 0) {
        walk_end(&count->walk);
        free(count);
        return NULL;
    }
    return count;
}

void count_get(const struct count *count, struct store_work *all)
{
    *all = count != NULL && count->done ? count->sum : (struct store_work){0};
}

void count_stop(struct count *count)
{
    if (count == NULL)
        return;
    count->stop = true;
    pthread_join(count->thread, NULL);
    walk_end(&count->walk);
    free(count);
}
