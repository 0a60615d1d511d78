/* Where log lines end up: a file, a pipe, a socket, a terminal.
 *
 * Private to base/log.c. Never waits without bounds for a reader that does not
 * read. A copy of the struct is a sink of its own; the descriptor is owned by
 * the log. */
#ifndef MOON_BASE_LOG_SINK_H
#define MOON_BASE_LOG_SINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct moon_log_sink {
    int fd;
    bool regular, sock; /* what kind of file it is */
    /* Waiting costs patience only while this is true; NULL: always. */
    const _Atomic bool *stopping;
    int waited_ms; /* by this copy, so far */
};

struct moon_log_sink moon_log_sink_make(int fd);

/* Returns how many bytes could not be written: nobody read for `patience_ms`,
 * or the file is broken (a log that cannot be written has nowhere to say
 * so). Lines of several processes on one pipe do not mix, up to 4 KiB each. */
size_t moon_log_sink_write(struct moon_log_sink *sink, const char *bytes,
                           size_t len, int patience_ms);

#endif
