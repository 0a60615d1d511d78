/* What the files of the Redis client share. Private to state/redis*.
 *
 * A client has nodes: masters it may send to. One, if the URL leads to a single
 * server or to sentinels; those of the map, and those it was pointed to, in a
 * cluster. A node (redis_node) keeps one shared link and the circuit. An op
 * (redis_op) is on its way on a node's link, or parked: until its node has a
 * link, or for a while. Whatever changes calls moon_redis_changed, which looks
 * at all parked ops again, and tells own links and the subscriptions.
 *
 * All of it runs on the loop thread. What is called "from the loop" below may
 * fire callbacks; everything else must not. */
#ifndef MOON_STATE_REDIS_INTERNAL_H
#define MOON_STATE_REDIS_INTERNAL_H

#include "state/alarm.h"
#include "state/redis.h"
#include "state/redis_link.h"

enum {
    MOON_REDIS_BACKOFF_MS = 50,      /* first, doubled each time */
    MOON_REDIS_BACKOFF_MAX_MS = 800, /* for a node that has served before */
    MOON_REDIS_BACKOFF_NEW_MS = 5000,
    MOON_REDIS_PING_MS = 10000, /* of links that only listen */
    MOON_REDIS_HOST = 256,
};

struct moon_redis_cluster;
struct moon_redis_node;
struct moon_redis_sentinel;

struct moon_redis {
    uv_loop_t *loop;
    struct moon_redis *next; /* in the registry */
    char *urlz;              /* as it was given */
    char *namez;
    struct moon_redis_url *url;
    struct moon_redis_options o; /* defaults filled in */
    uint32_t refs;
    uint32_t held;  /* scripts, own links, subscriptions not given back */
    uint32_t links; /* of all kinds, until the last of them was heard */
    bool closed;    /* by moon_redis_close_all, or after lingering */
    bool timer_closing, timer_closed;

    struct moon_alarms alarms;
    struct moon_alarm linger;
    struct moon_alarm parking; /* the first of `parked` that is due */
    struct moon_chain parked;  /* ops */
    uint32_t pending;
    uint64_t pending_bytes;

    struct moon_redis_node *nodes;
    struct moon_redis_sentinel *sentinel; /* or NULL */
    struct moon_redis_cluster *cluster;   /* or NULL */

    struct moon_redis_script *scripts;
    struct moon_chain owns_waiting, owns_idle, owns_used;
    struct moon_alarm own_alarm; /* the first waiting or idle one is due */
    uint32_t own_count;          /* waiting and used */

    struct moon_chain subs;
    struct moon_redis_link *sub_link;
    const struct moon_redis_node *sub_node; /* to which sub_link leads */
    struct moon_alarm sub_alarm;            /* make a link, or ping */
    uint32_t sub_failures;
    uint32_t sub_depth; /* somebody walks over `subs` */

    bool up;
    uint64_t since_ms;
    uint64_t commands, errors, timeouts, reconnects;
};

/* ---- redis.c ---- */

/* How long to wait for one sentinel, or for one node asked for the map: 300 ms,
 * if a link may take a second. */
static inline uint64_t moon_redis_ask_ms(const struct moon_redis *redis)
{
    return redis->o.connect_timeout_ms * 3 / 10 + 1;
}

/* Remembers why a call is refused, for moon_redis_whyz; returns `err`. */
enum moon_err moon_redis_refuse(enum moon_err err, const char *fmt, ...)
    MOON_PRINTF(2, 3);
/* A link to any server of this client; counted in `links`. */
struct moon_redis_link *moon_redis_open_link(
    struct moon_redis *redis, const char *hostz, uint16_t port,
    enum moon_redis_role role, uint64_t timeout_ms,
    const struct moon_redis_link_owner *owner);
/* That link was heard for the last time: call it from on_gone. */
void moon_redis_link_gone(struct moon_redis *redis);
/* That much after now; the end of time is not passed. */
static inline uint64_t moon_redis_later(const struct moon_redis *redis,
                                        uint64_t ms)
{
    uint64_t now = uv_now(redis->loop);
    return ms < UINT64_MAX - now ? now + ms : UINT64_MAX;
}
/* Keeps the loop alive as long as something waits for an alarm. */
static inline void moon_redis_hold_loop(struct moon_redis *redis)
{
    if (moon_chain_is_empty(&redis->parked) &&
        moon_chain_is_empty(&redis->owns_waiting))
        uv_unref((uv_handle_t *)&redis->alarms.timer);
    else
        uv_ref((uv_handle_t *)&redis->alarms.timer);
}
/* Frees the client if nothing needs it any more. */
void moon_redis_settle(struct moon_redis *redis);
/* From the loop: a node came up or went down, or the map changed. */
void moon_redis_changed(struct moon_redis *redis);
/* 1 to `ceiling`, evenly. */
uint64_t moon_redis_jitter(uint64_t ceiling);
/* Full jitter, by the number of failures in a row. */
uint64_t moon_redis_backoff(uint32_t failures, uint64_t most_ms);

/* The node to ask about a slot (-1: any). MOON_OK; MOON_EAGAIN: wait for it
 * (*node may be NULL); MOON_ECLOSED: it is down, and moon_redis_whyz says
 * why. */
enum moon_err moon_redis_route(struct moon_redis *redis, int slot,
                               struct moon_redis_node **node);

/* ---- redis_op.c ---- */

struct moon_redis_op;

/* The slot of commands whose keys must have one in common; -1: no keys, or no
 * cluster. */
MOON_MUST_CHECK enum moon_err moon_redis_find_slot(
    struct moon_redis *redis, const struct moon_redis_command *commands,
    uint32_t count, int *slot);

/* How an op begins, for all kinds of them. */
struct moon_redis_start {
    struct moon_redis *redis;
    const struct moon_redis_command *commands;
    uint32_t count;
    int slot;
    struct moon_redis_script *script; /* that the command runs, or NULL */
    bool by_hash;                     /* the command is EVALSHA */
    struct moon_wire *own;            /* the link to use, or NULL */
};
MOON_MUST_CHECK enum moon_err moon_redis_op_start(
    const struct moon_redis_start *start, const struct moon_redis_how *how,
    struct moon_redis_op **out);
/* From the loop: looks at all parked ops again. */
void moon_redis_op_unpark_all(struct moon_redis *redis);
/* No parked op is to wait for this node. */
void moon_redis_op_leave(struct moon_redis *redis,
                         const struct moon_redis_node *node);

/* ---- redis_script.c ---- */

/* "" until a server told its hash. */
const char *moon_redis_script_shaz(const struct moon_redis_script *script);
struct moon_str moon_redis_script_source(
    const struct moon_redis_script *script);
void moon_redis_script_ref(struct moon_redis_script *script);
/* Loads all scripts of the client through a link. */
void moon_redis_script_load_all(struct moon_redis *redis,
                                struct moon_redis_link *link);

/* ---- redis_own.c, redis_sub.c ---- */

/* From the loop, as part of moon_redis_changed. */
void moon_redis_own_changed(struct moon_redis *redis);
void moon_redis_sub_changed(struct moon_redis *redis);
/* The node moves or is no more: links to it are of no use. */
void moon_redis_own_leave(struct moon_redis *redis,
                          const struct moon_redis_node *node);
void moon_redis_sub_leave(struct moon_redis *redis,
                          const struct moon_redis_node *node);
/* The client is closed. */
void moon_redis_own_close_all(struct moon_redis *redis);
void moon_redis_sub_close_all(struct moon_redis *redis);

#endif
