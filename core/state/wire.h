/* One pipelined connection to a store that answers in order: Redis, memcached.
 *
 * Dials, writes what was queued once per loop turn, reads replies with the
 * store's codec and hands each to the oldest request. A reply cannot be
 * skipped, so a request that was cancelled or whose time is over keeps its
 * place in the line until its reply came, which is then dropped. If the oldest
 * one is not answered in twice its time (and twice `patience_ms`, so that one
 * impatient request does not end the connection of all), the connection counts
 * as dead.
 *
 * Owned by its creator until moon_wire_destroy, freed after on_gone. Requests
 * may be queued from the start, before it is connected. No callback comes from
 * inside a call; in every callback everything may be called, destroy too. It
 * keeps the loop alive only while it dials or requests are under way. Loop
 * thread only. */
#ifndef MOON_STATE_WIRE_H
#define MOON_STATE_WIRE_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <uv.h>

struct moon_wire;

/* The protocol of a store: what turns bytes into replies. */
struct moon_wire_codec {
    /* The reader of one connection; NULL: no memory. */
    void *(*create)(void);
    void (*destroy)(void *reader);
    /* Bytes came; copied. MOON_ENOMEM. */
    enum moon_err (*feed)(void *reader, const char *bytes, size_t len);
    /* MOON_OK: *reply is the next whole one, transferred. MOON_EAGAIN: it
     * needs more bytes. Else nothing can be read any more, and *whyz (static
     * or the reader's) says why. */
    enum moon_err (*next)(void *reader, void **reply, const char **whyz);
    void (*release)(void *reply);
};

struct moon_wire_result {
    enum moon_err err;
    /* When MOON_OK; released after the call, unless it was taken: NULL. */
    void *reply;
    const char *whyz; /* of a failure; borrowed for the call */
    bool untouched;   /* no byte of it was written: nobody executed it */
};
/* Once for each reply that was asked for, in order, unless cancelled:
 * MOON_OK; MOON_ETIMEOUT, its own deadline, and it may still be executed; or
 * what ended the connection. */
typedef void moon_wire_done(void *ctx, struct moon_wire_result *result);

struct moon_wire_owner {
    void *ctx;
    /* At most once, never after moon_wire_destroy: the connection ended by
     * itself. MOON_ETIMEOUT: no answer for too long; MOON_EPROTO,
     * MOON_ETOO_BIG: what came is no reply, or a too large one;
     * MOON_ECLOSED, MOON_ESYS; MOON_OK after moon_wire_finish. Requests under
     * way fail right after it; with MOON_EPROTO and MOON_ETOO_BIG only the
     * oldest, whose reply it was, the others with MOON_ECLOSED. */
    void (*on_down)(void *ctx, enum moon_err err, const char *whyz);
    /* Sees every reply before the oldest request does; true: it was none, but
     * a message to the owner. NULL: there are no messages. */
    bool (*on_push)(void *ctx, const void *reply);
    /* After moon_wire_destroy, last of all: the memory is gone. */
    void (*on_gone)(void *ctx);
};

struct moon_wire_options {
    struct moon_str host; /* as for moon_dial_start; borrowed for the call */
    uint16_t port;
    uint64_t connect_timeout_ms;
    uint64_t patience_ms;
    uint32_t max_pending;   /* replies under way, with those to be dropped */
    size_t max_out_bytes;   /* queued and not written */
    size_t max_reply_bytes; /* of one reply */
    const struct moon_wire_codec *codec; /* static */
    struct moon_wire_owner owner;
};

/* Dials; a failure to do so arrives at on_down too. NULL: no memory. */
MOON_MUST_CHECK struct moon_wire *moon_wire_create(
    uv_loop_t *loop, const struct moon_wire_options *options);
/* What is under way fails with MOON_ECLOSED in the next turn. */
void moon_wire_destroy(struct moon_wire *wire);
/* Takes no more requests, and ends (on_down with MOON_OK) once all replies
 * came. */
void moon_wire_finish(struct moon_wire *wire);

/* Queues `bytes` (copied): whole requests that `replies` replies answer. `done`
 * may be NULL: nobody listens. The ticket is for moon_wire_cancel. At once and
 * without a callback: MOON_EFULL, MOON_ETOO_BIG (larger than max_out_bytes),
 * MOON_ECLOSED, MOON_ENOMEM. */
MOON_MUST_CHECK enum moon_err moon_wire_send(
    struct moon_wire *wire, struct moon_str bytes, uint32_t replies,
    uint64_t timeout_ms, moon_wire_done *done, void *ctx, uint64_t *ticket);
/* Forgets the callbacks of `replies` replies from that ticket on; those that
 * fired are over anyway. */
void moon_wire_cancel(struct moon_wire *wire, uint64_t ticket,
                      uint32_t replies);

/* Replies that are still to come, with those to be dropped. */
uint32_t moon_wire_pending(const struct moon_wire *wire);

#endif
