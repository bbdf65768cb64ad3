/* SPDX-License-Identifier: BSD-2-Clause */
#include "records.h"

#include <inttypes.h>
#include <string.h>

#include "store/util.h"

/*
 * Bytes. An open that asks the daemon costs about 40 us more than one that doesn't, and this is
 * what is copied in that time, twice, when a file is read through the daemon for the first time: if
 * an average record has more, large-record mode is the better one.
 */
#define AVERAGE_LARGE ((uint64_t)256 << 10)

static const char *const names[] = {"auto", "small", "large"};

int records_parse(const char *text, enum records_mode *mode)
{
    for (size_t i = 0; i < array_length(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *mode = (enum records_mode)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* What is in use of data.mdb is nearly all content, where records are large; and where they
 * are small the tree around them doesn't make them large. */
static enum records_mode look(struct store *store, struct ways *ways)
{
    struct store_stat stat;
    if (store_stat(store, false, &stat) < 0 || stat.contents == 0) {
        ways_set(ways, WAY_records, "small", "no record in the store is larger than a page");
        return RECORDS_SMALL;
    }
    uint64_t average = (stat.total_pages - stat.free_pages) * stat.page_size / stat.records;
    bool large = average >= AVERAGE_LARGE;
    ways_set(ways, WAY_records, large ? "large" : "small",
             "the store holds %" PRIu64 " records of %" PRIu64 " KiB on average", stat.records,
             average >> 10);
    return large ? RECORDS_LARGE : RECORDS_SMALL;
}

enum records_mode records_choose(enum records_mode wish, struct store *store, struct ways *ways)
{
    if (wish == RECORDS_AUTO)
        return look(store, ways);
    ways_set(ways, WAY_records, names[wish], "option records=%s", names[wish]);
    return wish;
}
