/* One connection to one Redis server that has introduced itself: dialled,
 * password and database accepted, named, and known to answer.
 *
 * A wire with a handshake before it. Owned by its creator until
 * moon_redis_link_destroy, freed after on_gone. The rules of a wire hold
 * (state/wire.h); nothing may be sent before on_ready. */
#ifndef MOON_STATE_REDIS_LINK_H
#define MOON_STATE_REDIS_LINK_H

#include "state/redis_url.h"
#include "state/wire.h"

enum { MOON_REDIS_WHY = 192 };

struct moon_redis_link;

enum moon_redis_role {
    MOON_REDIS_ANY,    /* whatever the URL leads to */
    MOON_REDIS_MASTER, /* must say that it is a master */
    /* A sentinel: has no databases, and may have no password. */
    MOON_REDIS_ASK,
};

struct moon_redis_link_owner {
    void *ctx;
    void (*on_ready)(void *ctx);
    /* At most once, never after the destroy; MOON_EDENIED: the password or the
     * database was refused, MOON_EAGAIN: it answers, but cannot serve now.
     * `whyz` is for people. */
    void (*on_down)(void *ctx, enum moon_err err, const char *whyz);
    bool (*on_push)(void *ctx, const void *reply); /* may be NULL */
    void (*on_gone)(void *ctx);
};

struct moon_redis_link_options {
    const struct moon_redis_url *url; /* user, password, database */
    const char *namez;                /* NULL: none */
    enum moon_redis_role role;
    uint64_t connect_timeout_ms; /* for the handshake too */
    uint64_t patience_ms;
    uint32_t max_pending;
    size_t max_out_bytes, max_reply_bytes;
    struct moon_redis_link_owner owner;
};

/* All text is borrowed for the call. NULL: no memory. */
MOON_MUST_CHECK struct moon_redis_link *moon_redis_link_create(
    uv_loop_t *loop, const char *hostz, uint16_t port,
    const struct moon_redis_link_options *options);
void moon_redis_link_destroy(struct moon_redis_link *link);

bool moon_redis_link_is_ready(const struct moon_redis_link *link);
/* For requests; the link's own. */
struct moon_wire *moon_redis_link_wire(const struct moon_redis_link *link);
/* One command, as moon_wire_send; `ticket` may be NULL. */
MOON_MUST_CHECK enum moon_err moon_redis_link_send(
    struct moon_redis_link *link, const struct moon_str *argv, uint32_t argc,
    uint64_t timeout_ms, moon_wire_done *done, void *ctx, uint64_t *ticket);

#endif
