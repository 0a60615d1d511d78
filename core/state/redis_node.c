#include "state/redis_node.h"

#include "base/log.h"
#include "state/redis_cluster.h"
#include "state/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>

/* To have served for less than this is neither a sign of health nor news. */
enum { SERVED_MS = 1000, SUSPECT_MS = 1000 };

/* One link of the node; in its chain until it is closed. */
struct moon_redis_lane {
    struct moon_chain chain;
    struct moon_redis_node *node;
    struct moon_redis_link *link;
};

static void attempt(struct moon_redis_node *node);

/* ---- what people hear of it ---- */

static void say(struct moon_redis_node *node, const char *whyz)
{
    const char *urlz = node->redis->url->shownz;
    bool many = node->redis->cluster != NULL;
    if (strcmp(node->logged, whyz) == 0)
        return;
    (void)snprintf(node->logged, sizeof(node->logged), "%s", whyz);
    if (whyz[0] == '\0' && many)
        moon_log(MOON_LOG_INFO, "redis %s: %s:%u is up again", urlz,
                 node->hostz, node->port);
    else if (whyz[0] == '\0')
        moon_log(MOON_LOG_INFO, "redis %s is up again", urlz);
    else if (many)
        moon_log(MOON_LOG_WARN, "redis %s: %s:%u is down: %s", urlz,
                 node->hostz, node->port, whyz);
    else
        moon_log(MOON_LOG_WARN, "redis %s is down: %s", urlz, whyz);
}

/* ---- the circuit ---- */

static void set_state(struct moon_redis_node *node,
                      enum moon_redis_node_state state, const char *whyz)
{
    node->state = state;
    node->since_ms = uv_now(node->redis->loop);
    (void)snprintf(node->why, sizeof(node->why), "%s", whyz);
}

static void on_retry(struct moon_alarm *alarm)
{
    attempt(MOON_CONTAINER(alarm, struct moon_redis_node, retry));
}

static void on_steady(struct moon_alarm *alarm)
{
    say(MOON_CONTAINER(alarm, struct moon_redis_node, steady), "");
}

/* From the loop: one attempt, or the link, is over. */
static void go_down(struct moon_redis_node *node, const char *whyz)
{
    moon_alarm_clear(&node->steady);
    uint64_t most =
        node->served ? MOON_REDIS_BACKOFF_MAX_MS : MOON_REDIS_BACKOFF_NEW_MS;
    set_state(node, MOON_REDIS_DOWN, whyz);
    say(node, node->why);
    moon_alarm_set(&node->redis->alarms, &node->retry,
                   moon_redis_backoff(node->failures++, most), on_retry);
    if (node->redis->cluster != NULL)
        moon_redis_cluster_refresh(node->redis->cluster);
    moon_redis_changed(node->redis);
}

/* From the loop: the link that served broke. */
static void lose(struct moon_redis_node *node, enum moon_err err,
                 const char *whyz)
{
    uint64_t served = uv_now(node->redis->loop) - node->since_ms;
    if (served >= SERVED_MS)
        node->failures = 0; /* else the pauses grow, or it would flap */
    if (err == MOON_ETIMEOUT || served < SERVED_MS) {
        go_down(node, whyz);
        return;
    }
    set_state(node, MOON_REDIS_CONNECTING, whyz);
    attempt(node);
    moon_redis_changed(node->redis);
}

/* ---- links ---- */

static void close_lane(struct moon_redis_lane *lane)
{
    moon_chain_remove(&lane->chain);
    moon_redis_link_destroy(lane->link);
}

static void on_ready(void *ctx)
{
    struct moon_redis_lane *lane = ctx;
    struct moon_redis_node *node = lane->node;
    if (lane != node->main)
        return;
    if (node->served)
        node->redis->reconnects++;
    node->served = true;
    set_state(node, MOON_REDIS_UP, "");
    if (node->logged[0] != '\0')
        moon_alarm_set(&node->redis->alarms, &node->steady, SERVED_MS,
                       on_steady);
    moon_redis_script_load_all(node->redis, lane->link);
    moon_redis_changed(node->redis);
}

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct moon_redis_lane *lane = ctx;
    struct moon_redis_node *node = lane->node;
    bool was_main = lane == node->main;
    if (was_main)
        node->main = NULL;
    close_lane(lane);
    if (!was_main)
        return; /* had been left, and its last reply came */
    if (node->state == MOON_REDIS_UP)
        lose(node, err, whyz);
    else
        go_down(node, whyz);
}

static void free_node(struct moon_redis_node *node)
{
    struct moon_redis_node **at = &node->redis->nodes;
    if (!node->dropped || node->lane_count > 0)
        return;
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    free(node);
}

static void on_gone(void *ctx)
{
    struct moon_redis_lane *lane = ctx;
    struct moon_redis_node *node = lane->node;
    struct moon_redis *redis = node->redis;
    free(lane);
    node->lane_count--;
    free_node(node);
    moon_redis_link_gone(redis);
}

static void open_lane(struct moon_redis_node *node)
{
    struct moon_redis *redis = node->redis;
    struct moon_redis_lane *lane = calloc(1, sizeof(*lane));
    enum moon_redis_role role =
        redis->sentinel != NULL ? MOON_REDIS_MASTER : MOON_REDIS_ANY;
    const struct moon_redis_link_owner owner = {lane, on_ready, on_down, NULL,
                                                on_gone};
    if (lane != NULL)
        lane->link = moon_redis_open_link(redis, node->hostz, node->port, role,
                                          redis->o.connect_timeout_ms, &owner);
    if (lane == NULL || lane->link == NULL) {
        free(lane);
        /* Not through go_down: this may not be the loop. */
        set_state(node, MOON_REDIS_DOWN, moon_err_text(MOON_ENOMEM));
        moon_alarm_set(&redis->alarms, &node->retry, MOON_REDIS_BACKOFF_MAX_MS,
                       on_retry);
        return;
    }
    lane->node = node;
    node->lane_count++;
    moon_chain_add(&node->lanes, &lane->chain);
    node->main = lane;
}

/* A link that is no good any more: what is under way on it is still answered,
 * what was not sent yet waits for the next one. */
static void leave_main(struct moon_redis_node *node)
{
    struct moon_redis_lane *lane = node->main;
    node->main = NULL;
    if (lane == NULL)
        return;
    if (moon_redis_link_is_ready(lane->link))
        moon_wire_finish(moon_redis_link_wire(lane->link));
    else
        close_lane(lane);
}

static void attempt(struct moon_redis_node *node)
{
    moon_alarm_clear(&node->retry);
    leave_main(node);
    if (node->redis->sentinel != NULL)
        moon_redis_sentinel_find(node->redis->sentinel);
    else
        open_lane(node);
}

void moon_redis_node_found(struct moon_redis_node *node, const char *hostz,
                           uint16_t port, const char *whyz)
{
    bool moved = hostz != NULL && !moon_redis_node_is_at(node, hostz, port);
    if (node->dropped)
        return;
    if (hostz == NULL) {
        /* Nobody knows better: a link that serves stays. */
        if (node->main == NULL)
            go_down(node, whyz);
        return;
    }
    if (!moved && node->main != NULL)
        return;
    if (moved) {
        moon_redis_own_leave(node->redis, node);
        moon_redis_sub_leave(node->redis, node);
        (void)snprintf(node->hostz, sizeof(node->hostz), "%s", hostz);
        node->port = port;
    }
    leave_main(node);
    moon_alarm_clear(&node->retry);
    if (node->state == MOON_REDIS_UP)
        set_state(node, MOON_REDIS_CONNECTING, "the master moves");
    open_lane(node);
}

bool moon_redis_node_suspect(struct moon_redis_node *node)
{
    uint64_t now = uv_now(node->redis->loop);
    if (node->state != MOON_REDIS_UP)
        return true; /* it has been left already */
    if (node->suspected_ms != 0 && now - node->suspected_ms < SUSPECT_MS)
        return false;
    node->suspected_ms = now;
    set_state(node, MOON_REDIS_CONNECTING, "it says that it cannot serve");
    attempt(node);
    return true;
}

/* ---- life ---- */

bool moon_redis_node_is_at(const struct moon_redis_node *node,
                           const char *hostz, uint16_t port)
{
    return node->port == port && strcmp(node->hostz, hostz) == 0;
}

struct moon_redis_link *moon_redis_node_link(const struct moon_redis_node *node)
{
    return node->main->link;
}

struct moon_redis_node *moon_redis_node_create(struct moon_redis *redis,
                                               const char *hostz, uint16_t port)
{
    struct moon_redis_node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return NULL;
    node->redis = redis;
    node->port = port;
    moon_chain_init(&node->lanes);
    if (hostz != NULL)
        (void)snprintf(node->hostz, sizeof(node->hostz), "%s", hostz);
    set_state(node, MOON_REDIS_CONNECTING, "connecting");
    node->next = redis->nodes;
    redis->nodes = node;
    attempt(node);
    return node;
}

void moon_redis_node_drop(struct moon_redis_node *node, bool at_once)
{
    moon_alarm_clear(&node->retry);
    moon_alarm_clear(&node->steady);
    moon_redis_op_leave(node->redis, node);
    moon_redis_own_leave(node->redis, node);
    moon_redis_sub_leave(node->redis, node);
    if (node->logged[0] != '\0' && !at_once)
        moon_log(MOON_LOG_INFO, "redis %s: %s:%u is no master any more",
                 node->redis->url->shownz, node->hostz, node->port);
    node->dropped = true;
    node->in_map = false;
    leave_main(node);
    while (at_once && !moon_chain_is_empty(&node->lanes))
        close_lane(
            MOON_CONTAINER(node->lanes.next, struct moon_redis_lane, chain));
    free_node(node);
}
