/* A master that a client may send to: its shared link, and the circuit.
 *
 *   CONNECTING  a link is made, commands wait for it
 *   UP          the link serves
 *   DOWN        that failed: commands fail at once, probes go on, one at a time
 *
 * It starts CONNECTING. A link that breaks after it served for a while makes it
 * CONNECTING again, for mostly that is a restart or an idle link cut by
 * somebody, and a new one is there at once; DOWN if it broke for lack of
 * answers, or soon. Behind sentinels every new link begins with the question
 * where the master is.
 *
 * Owned by its client; stays in redis->nodes, marked, from moon_redis_node_drop
 * until its links are gone, then it is freed. Private to state/redis*. */
#ifndef MOON_STATE_REDIS_NODE_H
#define MOON_STATE_REDIS_NODE_H

#include "state/redis_internal.h"

enum moon_redis_node_state {
    MOON_REDIS_CONNECTING,
    MOON_REDIS_UP,
    MOON_REDIS_DOWN,
};

struct moon_redis_lane;

struct moon_redis_node {
    struct moon_redis *redis;
    struct moon_redis_node *next; /* of the client */
    char hostz[MOON_REDIS_HOST];  /* sentinels: "" before it was found */
    uint16_t port;
    enum moon_redis_node_state state;
    bool served;  /* was up at least once */
    bool dropped; /* makes no more links; freed with the last */
    bool in_map;  /* cluster: has slots */
    uint64_t since_ms;
    uint64_t suspected_ms; /* when it was last left for what it said */
    uint64_t used_ms;      /* cluster: when it was last pointed to */
    uint32_t failures;     /* in a row */
    struct moon_chain lanes;
    uint32_t lane_count;          /* those that are not gone yet */
    struct moon_redis_lane *main; /* that serves or is made; or NULL */
    struct moon_alarm retry;
    struct moon_alarm steady;    /* it has been up for a while */
    char why[MOON_REDIS_WHY];    /* it is not up */
    char logged[MOON_REDIS_WHY]; /* what was last said about it */
};

/* Begins to connect; with hostz NULL the sentinels are asked first. NULL: no
 * memory. */
MOON_MUST_CHECK struct moon_redis_node *moon_redis_node_create(
    struct moon_redis *redis, const char *hostz, uint16_t port);
/* It is not to be used any more. What is under way is still answered or, with
 * `at_once`, fails from the loop. May free it. */
void moon_redis_node_drop(struct moon_redis_node *node, bool at_once);

bool moon_redis_node_is_at(const struct moon_redis_node *node,
                           const char *hostz, uint16_t port);
/* The shared link; node must be UP. */
struct moon_redis_link *moon_redis_node_link(
    const struct moon_redis_node *node);
/* A reply says that this is not, or not now, the server to ask (READONLY,
 * LOADING ...). Leaves the link for a new one, once a second at most: false if
 * it was left just before. What is under way on the old link is still
 * answered. */
bool moon_redis_node_suspect(struct moon_redis_node *node);

/* From the loop, by the sentinel: the answer to moon_redis_sentinel_find;
 * hostz NULL: nobody knows, because of `whyz`. */
void moon_redis_node_found(struct moon_redis_node *node, const char *hostz,
                           uint16_t port, const char *whyz);

#endif
