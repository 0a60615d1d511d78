/* Log lines kept as data, for tests that ask what was logged.
 *
 * One store a process, of one thread: lines that other threads log are written
 * as ever. Bounded: of more than MOON_LOG_RECORDS lines since the last clear
 * only the first are kept, and counted. Never fails: without memory a line is
 * not kept. */
#ifndef MOON_BASE_LOG_RECORDS_H
#define MOON_BASE_LOG_RECORDS_H

#include "base/log.h"

enum { MOON_LOG_RECORDS = 1000 };

struct moon_log_record {
    enum moon_log_level level;
    struct moon_str message;
    const struct moon_log_field *fields;
    size_t field_count;
};

/* From now on lines of the calling thread are kept. With `instead` they are
 * not written: each goes there, on one line of text or more, as
 * moon_log_describe writes it. */
typedef void moon_log_instead(void *ctx, enum moon_log_level level,
                              struct moon_str text);
void moon_log_records_start(moon_log_instead *instead, void *ctx);
/* Lines are written again, and none is kept. */
void moon_log_records_stop(void);

void moon_log_records_clear(void);
/* How many there were; the first MOON_LOG_RECORDS of them can be had. */
size_t moon_log_records_count(void);
/* Borrowed until the next clear; false when there is none of that index. */
bool moon_log_records_get(size_t index, struct moon_log_record *out);

#endif
