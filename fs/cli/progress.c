/* SPDX-License-Identifier: BSD-2-Clause */
#include "progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "units.h"

/* Time between two drawings, seconds: faster than that nobody reads. */
#define DRAW_EVERY 0.1

/* Before this there is too little to guess from. */
#define GUESS_AFTER 1.0

/* A file costs about as much time as so many bytes of content. */
#define FILE_COST 16384.0

static volatile sig_atomic_t stop_wanted;

static void want_stop(int signal)
{
    (void)signal;
    stop_wanted = 1;
}

static double since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

void progress_start(struct progress *progress, const char *command, bool quiet)
{
    const struct sigaction action = {.sa_handler = want_stop, .sa_flags = SA_RESTART};
    *progress = (struct progress){.command = command, .quiet = quiet};
    progress->terminal = !quiet && isatty(STDERR_FILENO);
    clock_gettime(CLOCK_MONOTONIC, &progress->start);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like others */
}

/* ---------------------------------------------------------------- drawing -- */

struct amounts {
    uint64_t files, bytes, all_files, all_bytes;
};

static double cost(uint64_t files, uint64_t bytes)
{
    return (double)files * FILE_COST + (double)bytes;
}

/* "3751 of 37510 files, 12 MiB of 117 MiB, 60 MiB/s, 0:02 left" */
static void describe(const struct amounts *now, double elapsed, char *line, size_t size)
{
    char files[64], bytes[80], left[64] = "";
    double done = cost(now->files, now->bytes), all = cost(now->all_files, now->all_bytes);
    bool known = now->all_files > 0;
    snprintf(files, sizeof(files), known ? "%" PRIu64 " of %" PRIu64 " files" : "%" PRIu64 " files",
             now->files, now->all_files);
    snprintf(bytes, sizeof(bytes), known ? "%s of %s" : "%s", units_bytes(now->bytes).text,
             units_bytes(now->all_bytes).text);
    uint64_t rate = elapsed > 0 ? (uint64_t)((double)now->bytes / elapsed) : 0;
    if (known && done < all && elapsed > GUESS_AFTER && done > 0)
        snprintf(left, sizeof(left), ", %s left",
                 units_duration(elapsed * (all - done) / done).text);
    snprintf(line, size, "%s, %s, %s/s%s", files, bytes, units_bytes(rate).text, left);
}

static int terminal_width(void)
{
    struct winsize window;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
}

/* Over what is there. A line as wide as the terminal would wrap. */
static void draw(struct progress *progress, const char *line)
{
    int width = (int)strlen(line), most = terminal_width() - 1;
    width = width > most ? most : width;
    int over = progress->width > width ? progress->width - width : 0;
    fprintf(stderr, "\r%.*s%*s", width, line, over, "");
    progress->width = width;
    clock_gettime(CLOCK_MONOTONIC, &progress->drawn);
    fflush(stderr);
}

void progress_clear(struct progress *progress)
{
    if (progress->width == 0)
        return;
    draw(progress, "");
    fprintf(stderr, "\r");
    fflush(stderr);
}

/* --------------------------------------------------------------- observer -- */

static void on_progress(void *arg, uint64_t files, uint64_t bytes, uint64_t all_files,
                        uint64_t all_bytes)
{
    struct progress *progress = arg;
    if (progress->width > 0 && since(&progress->drawn) < DRAW_EVERY)
        return;
    char line[256];
    struct amounts now = {files, bytes, all_files, all_bytes};
    describe(&now, since(&progress->start), line, sizeof(line));
    draw(progress, line);
}

static void on_message(void *arg, const char *path, const char *text)
{
    struct progress *progress = arg;
    progress_clear(progress);
    FILE *file = progress->command == NULL ? stdout : stderr;
    if (progress->command != NULL)
        fprintf(file, "lmdbfs %s: ", progress->command);
    units_print_path(file, path);
    fputs(": ", file);
    units_print_path(file, text); /* it may quote a part of the path */
    putc('\n', file);
    fflush(file);
}

static bool on_stop(void *arg)
{
    (void)arg;
    return stop_wanted != 0;
}

struct store_observer progress_observer(struct progress *progress)
{
    return (struct store_observer){
        .arg = progress,
        .progress = progress->terminal ? on_progress : NULL,
        .message = on_message,
        .stop = on_stop,
    };
}

void progress_summary(struct progress *progress, const char *verb, const struct store_work *work)
{
    double elapsed = since(&progress->start);
    progress_clear(progress);
    if (progress->quiet)
        return;
    printf("%s %" PRIu64 " file%s in %" PRIu64 " director%s, %s in %s (%s/s)", verb, work->files,
           work->files == 1 ? "" : "s", work->directories, work->directories == 1 ? "y" : "ies",
           units_bytes(work->bytes).text, units_duration(elapsed).text,
           units_bytes(elapsed > 0 ? (uint64_t)((double)work->bytes / elapsed) : 0).text);
    if (work->skipped > 0)
        printf("; %" PRIu64 " skipped", work->skipped);
    printf("\n");
}
