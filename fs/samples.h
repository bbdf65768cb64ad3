/* SPDX-License-Identifier: BSD-2-Clause */
/* samples.h: reading metrics in Prometheus' text format, such as ".lmdbfs/stats" has them. */
#ifndef FS_SAMPLES_H
#define FS_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#define SAMPLES_LABELS 4

/* One line. The texts live in the samples that it is one of. */
struct sample {
    const char *name, *help; /* help is "" if there is none */
    struct {
        const char *name, *value;
    } labels[SAMPLES_LABELS];
    unsigned label_count;
    uint64_t value; /* the integer part */
};

struct samples {
    char *text;
    struct sample *list;
    size_t count;
};

/* Cut `text`, which is taken over also on failure, into samples, to be freed. -EBADMSG: it is no
 * such text. -ENOMEM. */
int samples_parse(char *text, struct samples *samples);
/* The same for a file, that is read in one go. Or what reading it came to. */
int samples_read(const char *path, struct samples *samples);
void samples_free(struct samples *samples);

/* The value of a label; "" if the sample has none of that name. */
const char *sample_label(const struct sample *sample, const char *name);
/* The first sample of that name; NULL if there is none. */
const struct sample *samples_find(const struct samples *samples, const char *name);
/* Its value; 0 if there is none. */
uint64_t samples_value(const struct samples *samples, const char *name);

#endif
