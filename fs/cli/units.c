/* SPDX-License-Identifier: BSD-2-Clause */
#include "units.h"

struct units units_bytes(uint64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct units units;
    double value = (double)bytes;
    unsigned name = 0;
    for (; value >= 1023.5; value /= 1024)
        name++;
    snprintf(units.text, sizeof(units.text), "%.*f %s", name > 0 && value < 9.95 ? 1 : 0, value,
             names[name]);
    return units;
}

struct units units_duration(double seconds)
{
    struct units units;
    unsigned long whole = (unsigned long)(seconds + 0.5);
    if (seconds < 59.95)
        snprintf(units.text, sizeof(units.text), "%.*f s", seconds < 9.995 ? 2 : 1, seconds);
    else if (whole < 3600)
        snprintf(units.text, sizeof(units.text), "%lu:%02lu", whole / 60, whole % 60);
    else
        snprintf(units.text, sizeof(units.text), "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60,
                 whole % 60);
    return units;
}

void units_print_path(FILE *file, const char *path)
{
    for (const unsigned char *c = (const unsigned char *)path; *c != '\0'; c++) {
        if (*c < ' ' || *c == 0x7f || *c == '\\')
            fprintf(file, "\\%03o", *c);
        else
            putc(*c, file);
    }
}
