/* One open outbound connection: buffered reads, whole writes, deadlines.
 *
 * Knows nothing of Lua or tasks. At most one read and one write are under way;
 * each ends by success, failure or its deadline. Created with a connected
 * socket, owned by one holder at a time (a Lua socket, or the pool of idle
 * ones) until moon_link_close, and freed when libuv lets go. Loop thread only.
 * Failures are told as text too, see moon_link_whyz. */
#ifndef MOON_LINK_LINK_H
#define MOON_LINK_LINK_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <uv.h>

/* What one receive may collect before it fails with MOON_ETOO_BIG. */
#define MOON_LINK_LIMIT ((size_t)16 << 20)

struct moon_link;

enum moon_link_side { MOON_LINK_READ, MOON_LINK_WRITE };

enum moon_link_kind {
    MOON_LINK_SIZE,  /* exactly `size` bytes */
    MOON_LINK_LINE,  /* up to a line feed, which is dropped */
    MOON_LINK_ALL,   /* up to the peer's close */
    MOON_LINK_ANY,   /* what is there, at least one byte, at most `size` */
    MOON_LINK_UNTIL, /* up to `pattern`, which is dropped, at most `size` */
};

struct moon_link_want {
    enum moon_link_kind kind;
    size_t size;
    struct moon_str pattern; /* copied */
};

/* An operation that answered MOON_EAGAIN is over. From the loop, once for each;
 * must not close the link, except when it is idle. */
typedef void moon_link_done(void *owner, enum moon_link_side side,
                            enum moon_err err);

/* Takes `fd`, also when it fails (NULL: no memory, no room in the loop). */
MOON_MUST_CHECK struct moon_link *moon_link_create(uv_loop_t *loop, int fd);
/* The holder from now on. */
void moon_link_set_owner(struct moon_link *link, moon_link_done *done,
                         void *owner);
/* Any pending operation is forgotten without a callback. */
void moon_link_close(struct moon_link *link);

/* Sends all of it: MOON_OK, or MOON_EAGAIN when the rest was copied. After a
 * failure nothing more can be sent; what the peer sent can still be read. */
MOON_MUST_CHECK enum moon_err moon_link_send(struct moon_link *link,
                                             struct moon_str bytes,
                                             uint64_t timeout_ms);
/* Whatever it answers, moon_link_taken has the bytes: all of them, or those
 * that came before the failure. After a timeout the link is still good. */
MOON_MUST_CHECK enum moon_err moon_link_receive(
    struct moon_link *link, const struct moon_link_want *want,
    uint64_t timeout_ms);
/* Of the last receive; borrowed until the next one or the close. */
struct moon_str moon_link_taken(const struct moon_link *link);
/* MOON_LINK_UNTIL: the pattern was met, not `size`. */
bool moon_link_met(const struct moon_link *link);
void moon_link_set_limit(struct moon_link *link, size_t bytes);
/* Of the last failure: "closed", "timeout", "too long", or the system's. */
const char *moon_link_whyz(const struct moon_link *link);

/* Nothing unread, unsent or failed, so that another holder can start. */
bool moon_link_is_clean(const struct moon_link *link);
bool moon_link_has_unread(const struct moon_link *link);
/* Asks the kernel: neither closed by the peer nor with bytes that nobody asked
 * for. */
bool moon_link_is_quiet(const struct moon_link *link);
/* Waits for what must not happen: `done` fires with MOON_ECLOSED when bytes or
 * the end arrive, MOON_ETIMEOUT when the time is over. Does not keep the loop
 * alive. */
void moon_link_idle(struct moon_link *link, uint64_t timeout_ms);
void moon_link_resume(struct moon_link *link);

#endif
