/* The link to one memcached server, made again whenever it breaks.
 *
 * While a first or a new link is made, requests wait for it within their
 * deadline; once that failed the server is down, and requests fail at once
 * until a probe was answered. Nothing is sent twice.
 *
 * Owned by its creator until moon_memcached_close. Every call that says MOON_OK
 * fires its callback once, later, from the loop. Does not keep the loop alive
 * unless requests are under way. Loop thread only. */
#ifndef MOON_STATE_MEMCACHED_H
#define MOON_STATE_MEMCACHED_H

#include "state/memcached_proto.h"

struct moon_memcached;

struct moon_memcached_options {
    const char *hostz; /* copied */
    uint16_t port;
    uint64_t connect_timeout_ms;
    uint64_t patience_ms; /* as in moon_wire_options */
    uint32_t max_pending;
    size_t max_bytes;       /* queued */
    size_t max_reply_bytes; /* of one reply */
};

/* Begins to connect. NULL: no memory. */
MOON_MUST_CHECK struct moon_memcached *moon_memcached_open(
    uv_loop_t *loop, const struct moon_memcached_options *options);
/* What is under way fails with MOON_ECLOSED, later. */
void moon_memcached_close(struct moon_memcached *server);

/* MOON_OK: `reply`, borrowed for the call. Else `whyz` says why none came. */
typedef void moon_memcached_done(void *ctx, enum moon_err err,
                                 const struct moon_memcached_reply *reply,
                                 const char *whyz);

/* One whole request; copied. At once, without a callback: MOON_ECLOSED (the
 * server is down, moon_memcached_whyz says why), MOON_EFULL, MOON_ETOO_BIG,
 * MOON_ENOMEM. */
MOON_MUST_CHECK enum moon_err moon_memcached_send(struct moon_memcached *server,
                                                  struct moon_str bytes,
                                                  uint64_t timeout_ms,
                                                  moon_memcached_done *done,
                                                  void *ctx);

/* "host:port"; lives as long as it. */
struct moon_str moon_memcached_name(const struct moon_memcached *server);
/* NULL: it can be asked. Else why not, until the loop runs. */
const char *moon_memcached_down(const struct moon_memcached *server);

#endif
