/* SPDX-License-Identifier: BSD-2-Clause */
#include "samples.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "store/util.h"

#define HELP_LINE "# HELP "

static bool is_name(int c)
{
    return isalnum(c) || c == '_' || c == ':';
}

/* Cut a name that ends before one of `ends` off *rest; *end is what it ended with. NULL: none. */
static char *cut_name(char **rest, const char *ends, char *end)
{
    char *name = *rest;
    while (is_name((unsigned char)**rest))
        (*rest)++;
    *end = **rest;
    if (*rest == name || *end == '\0' || strchr(ends, *end) == NULL)
        return NULL;
    *(*rest)++ = '\0';
    return name;
}

/* Cut a value in double quotes off *rest, and undo its escapes. NULL: it has no end. */
static char *cut_quoted(char **rest)
{
    if (**rest != '"')
        return NULL;
    char *value = ++*rest, *to = value;
    for (; **rest != '"'; (*rest)++) {
        bool escaped = **rest == '\\';
        *rest += escaped;
        if (**rest == '\0')
            return NULL;
        *to++ = escaped && **rest == 'n' ? '\n' : **rest;
    }
    (*rest)++;
    *to = '\0';
    return value;
}

static int parse_labels(char **rest, struct sample *sample)
{
    char end = ',';
    while (end == ',') {
        char *name = cut_name(rest, "=", &end);
        char *value = name == NULL ? NULL : cut_quoted(rest);
        end = **rest;
        if (value == NULL || sample->label_count == SAMPLES_LABELS || (end != ',' && end != '}'))
            return -EBADMSG;
        (*rest)++;
        sample->labels[sample->label_count].name = name;
        sample->labels[sample->label_count++].value = value;
    }
    return *(*rest)++ == ' ' ? 0 : -EBADMSG;
}

static int parse_sample(char *line, struct sample *sample)
{
    char end, *rest = line;
    *sample = (struct sample){.help = ""};
    sample->name = cut_name(&rest, " {", &end);
    if (sample->name == NULL)
        return -EBADMSG;
    int r = end == '{' ? parse_labels(&rest, sample) : 0;
    if (r < 0)
        return r;
    char *behind;
    double value = strtod(rest, &behind);
    if (behind == rest || *behind != '\0' || !(value >= 0 && value < 0x1p64))
        return -EBADMSG;
    sample->value = (uint64_t)value;
    return 0;
}

/* "# HELP name text" */
struct help {
    char *name, *text;
};

static void parse_help(char *line, struct help *help)
{
    char *name = line + strlen(HELP_LINE), *blank = strchr(name, ' ');
    if (blank == NULL)
        return;
    *blank = '\0';
    *help = (struct help){name, blank + 1};
}

static size_t count_lines(const char *text)
{
    size_t count = 1;
    while ((text = strchr(text, '\n')) != NULL) {
        count++;
        text++;
    }
    return count;
}

static int parse_line(struct samples *samples, char *line, struct help *help)
{
    if (strncmp(line, HELP_LINE, strlen(HELP_LINE)) == 0)
        parse_help(line, help);
    if (line[0] == '\0' || line[0] == '#')
        return 0;
    struct sample *sample = &samples->list[samples->count++];
    int r = parse_sample(line, sample);
    if (r == 0 && help->name != NULL && strcmp(help->name, sample->name) == 0)
        sample->help = help->text;
    return r;
}

int samples_parse(char *text, struct samples *samples)
{
    struct help help = {NULL, NULL};
    *samples = (struct samples){.text = text};
    samples->list = calloc(count_lines(text), sizeof(*samples->list));
    int r = samples->list == NULL ? -ENOMEM : 0;
    for (char *line = text; line != NULL && r == 0;) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        r = parse_line(samples, line, &help);
        line = next;
    }
    if (r < 0)
        samples_free(samples);
    return r;
}

int samples_read(const char *path, struct samples *samples)
{
    const size_t most = (size_t)1 << 20;
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *text = malloc(most + 1);
    if (text == NULL)
        return -ENOMEM;
    ssize_t n = pread_fully(fd, text, most, 0);
    if (n < 0) {
        free(text);
        return (int)n;
    }
    text[n] = '\0';
    return samples_parse(text, samples);
}

void samples_free(struct samples *samples)
{
    free(samples->text);
    free(samples->list);
    *samples = (struct samples){0};
}

const char *sample_label(const struct sample *sample, const char *name)
{
    for (unsigned i = 0; i < sample->label_count; i++)
        if (strcmp(sample->labels[i].name, name) == 0)
            return sample->labels[i].value;
    return "";
}

const struct sample *samples_find(const struct samples *samples, const char *name)
{
    for (size_t i = 0; i < samples->count; i++)
        if (strcmp(samples->list[i].name, name) == 0)
            return &samples->list[i];
    return NULL;
}

uint64_t samples_value(const struct samples *samples, const char *name)
{
    const struct sample *sample = samples_find(samples, name);
    return sample == NULL ? 0 : sample->value;
}
