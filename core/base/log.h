/* The process log: levelled lines to stderr or a file.
 *
 * A line is formatted by the caller's thread and handed to a bounded queue
 * that a writer thread drains, so a slow disk never holds up the loop; without
 * a writer (the master, the probe) it is written at once. When the queue is
 * full, lines are dropped and the next one says how many. One instance per
 * process. Any thread may log. */
#ifndef MOON_BASE_LOG_H
#define MOON_BASE_LOG_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum moon_log_level {
    MOON_LOG_DEBUG,
    MOON_LOG_INFO,
    MOON_LOG_WARN,
    MOON_LOG_ERROR,
};

enum moon_log_format { MOON_LOG_TEXT, MOON_LOG_JSON };

/* Extra name/value pairs of a line; in text, a value of several lines stands
 * indented below it. `raw` marks a JSON number or boolean. */
struct moon_log_field {
    struct moon_str name, value;
    bool raw;
};

/* Sets level, format and the prefix of each line ("node-8080 worker 2");
 * `pathz` NULL or "stderr" is stderr, else a file that is appended to. */
MOON_MUST_CHECK enum moon_err moon_log_setup(enum moon_log_level level,
                                             enum moon_log_format format,
                                             const char *pathz);
void moon_log_set_who(const char *whoz); /* copied */
enum moon_err moon_log_reopen(void);     /* after rotation (SIGHUP) */
/* Where lines go now: 2, or the file. For a child that closes the rest. */
int moon_log_fd(void);
/* Starts the writer thread of this process; stop flushes and joins it. */
MOON_MUST_CHECK enum moon_err moon_log_start_writer(void);
void moon_log_stop_writer(void);

bool moon_log_enabled(enum moon_log_level level);
void moon_log(enum moon_log_level level, const char *fmt, ...)
    MOON_PRINTF(2, 3);
void moon_log_fields(enum moon_log_level level, struct moon_str message,
                     const struct moon_log_field *fields, size_t count);
/* A finished line (access log), newline included, queued as it is. */
void moon_log_raw(struct moon_str line);

/* Sees each line of an enabled level first, on the thread that logs it; true:
 * the line is not written. Raw lines pass by it. */
typedef bool moon_log_tap(void *ctx, enum moon_log_level level,
                          struct moon_str message,
                          const struct moon_log_field *fields, size_t count);
/* For tests (base/log_records.h), before other threads log; NULL: none. */
void moon_log_set_tap(moon_log_tap *tap, void *ctx);
/* What a line of text says after its time and process, without a line break at
 * its end. */
void moon_log_describe(struct moon_buf *out, struct moon_str message,
                       const struct moon_log_field *fields, size_t count);

/* "warn" */
const char *moon_log_level_name(enum moon_log_level level);

/* Parses "debug" "info" "warn" "error"; false for anything else. */
bool moon_log_level_parse(struct moon_str text, enum moon_log_level *out);

#endif
