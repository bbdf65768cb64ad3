/* SPDX-License-Identifier: BSD-2-Clause */
/* units.h: numbers and names as people read them. */
#ifndef FS_CLI_UNITS_H
#define FS_CLI_UNITS_H

#include <stdint.h>
#include <stdio.h>

struct units {
    char text[32];
};

/* "17 B", "1.5 KiB", "230 MiB" */
struct units units_bytes(uint64_t bytes);
/* "1.5 to 2.3 GiB"-like pairs are two of these. Seconds as "0.25 s", "12.3 s", "2:05", "1:02:05" */
struct units units_duration(double seconds);

/* A path in one line that a terminal can't be harmed by: control characters and backslashes as
 * \ooo. */
void units_print_path(FILE *file, const char *path);

#endif
