#include "base/log_sink.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Looks this often whether it shall stop. */
#define LOOK_MS 100
/* A write of this much to a pipe is atomic. It is also what a pipe that polls
 * as writable takes at once. */
#define PIECE 4096

struct moon_log_sink moon_log_sink_make(int fd)
{
    struct stat st;
    bool known = fstat(fd, &st) == 0;
    return (struct moon_log_sink){
        .fd = fd,
        .regular = known && S_ISREG(st.st_mode),
        .sock = known && S_ISSOCK(st.st_mode),
    };
}

/* Waits for a reader; false when it is time to give up. */
static bool wait_writable(struct moon_log_sink *sink, int patience_ms)
{
    struct pollfd ready = {.fd = sink->fd, .events = POLLOUT};
    for (;;) {
        int n = poll(&ready, 1, patience_ms == 0 ? 0 : LOOK_MS);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
        if (sink->stopping == NULL || *sink->stopping)
            sink->waited_ms += LOOK_MS;
        if (sink->waited_ms >= patience_ms)
            return false;
    }
}

/* Whole lines as far as they go into one piece. */
static size_t piece_of(const struct moon_log_sink *sink, const char *bytes,
                       size_t len)
{
    if (sink->regular || len <= PIECE)
        return len;
    const char *end = memrchr(bytes, '\n', PIECE);
    return end != NULL ? (size_t)(end - bytes) + 1 : PIECE;
}

size_t moon_log_sink_write(struct moon_log_sink *sink, const char *bytes,
                           size_t len, int patience_ms)
{
    while (len > 0) {
        size_t piece = piece_of(sink, bytes, len);
        if (!sink->regular && !wait_writable(sink, patience_ms))
            return len;
        ssize_t n = sink->sock ? send(sink->fd, bytes, piece,
                                      MSG_DONTWAIT | MSG_NOSIGNAL)
                               : write(sink->fd, bytes, piece);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return len;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return 0;
}
