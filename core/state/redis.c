#include "state/redis_internal.h"

#include "base/log.h"
#include "base/random.h"
#include "base/tally.h"
#include "state/redis_cluster.h"
#include "state/redis_node.h"
#include "state/redis_sentinel.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Links carry more replies than the callers' commands ask for: handshakes,
 * scripts, those of commands that were cancelled. */
enum {
    LINK_EXTRA = 1024,
    LINK_EXTRA_BYTES = 1 << 20,
    PENDING_MAX = 1 << 24,
    /* Of bytes; what is more is nonsense, and sums must not wrap. */
    BYTES_MAX_SHIFT = 40,
};

static _Thread_local struct moon_redis *registry;
static _Thread_local char refusal[MOON_REDIS_WHY * 2];

/* ---- helpers of all files ---- */

enum moon_err moon_redis_refuse(enum moon_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(refusal, sizeof(refusal), fmt, args);
    va_end(args);
    return err;
}

const char *moon_redis_whyz(void)
{
    return refusal;
}

uint64_t moon_redis_jitter(uint64_t ceiling)
{
    uint64_t bits[2];
    moon_random_fast(bits);
    return bits[0] % ceiling + 1;
}

uint64_t moon_redis_backoff(uint32_t failures, uint64_t most_ms)
{
    uint64_t ceiling =
        failures < 16 ? (uint64_t)MOON_REDIS_BACKOFF_MS << failures : most_ms;
    return moon_redis_jitter(ceiling < most_ms ? ceiling : most_ms);
}

struct moon_redis_link *moon_redis_open_link(
    struct moon_redis *redis, const char *hostz, uint16_t port,
    enum moon_redis_role role, uint64_t timeout_ms,
    const struct moon_redis_link_owner *owner)
{
    const struct moon_redis_link_options options = {
        .url = redis->url,
        .namez = redis->namez,
        .role = role,
        .connect_timeout_ms = timeout_ms,
        .patience_ms = redis->o.timeout_ms,
        .max_pending = redis->o.max_pending + LINK_EXTRA,
        .max_out_bytes = redis->o.max_bytes + LINK_EXTRA_BYTES,
        .max_reply_bytes = redis->o.max_reply_bytes,
        .owner = *owner,
    };
    struct moon_redis_link *link =
        moon_redis_link_create(redis->loop, hostz, port, &options);
    moon_tally_add(MOON_TALLY_REDIS_CONNECTS, 1);
    if (link != NULL)
        redis->links++;
    return link;
}

void moon_redis_link_gone(struct moon_redis *redis)
{
    redis->links--;
    moon_redis_settle(redis);
}

enum moon_err moon_redis_route(struct moon_redis *redis, int slot,
                               struct moon_redis_node **node)
{
    *node = NULL;
    if (redis->closed)
        return moon_redis_refuse(MOON_ECLOSED, "the client is closed");
    if (redis->cluster != NULL)
        return moon_redis_cluster_route(redis->cluster, slot, node);
    *node = redis->nodes;
    switch ((*node)->state) {
    case MOON_REDIS_UP:
        return MOON_OK;
    case MOON_REDIS_CONNECTING:
        return MOON_EAGAIN;
    default:
        return moon_redis_refuse(MOON_ECLOSED, "redis is down: %s",
                                 (*node)->why);
    }
}

static bool is_up(const struct moon_redis *redis, const char **whyz)
{
    if (redis->closed) {
        *whyz = "closed";
        return false;
    }
    if (redis->cluster != NULL)
        return moon_redis_cluster_is_up(redis->cluster, whyz);
    *whyz = redis->nodes->why;
    return redis->nodes->state == MOON_REDIS_UP;
}

void moon_redis_changed(struct moon_redis *redis)
{
    const char *whyz;
    bool up = is_up(redis, &whyz);
    if (up != redis->up)
        redis->since_ms = uv_now(redis->loop);
    redis->up = up;
    moon_redis_op_unpark_all(redis);
    moon_redis_own_changed(redis);
    moon_redis_sub_changed(redis);
}

/* ---- the end of a client ---- */

static void free_client(struct moon_redis *redis)
{
    struct moon_redis **at = &registry;
    while (*at != redis)
        at = &(*at)->next;
    *at = redis->next;
    free(redis->url);
    free(redis->urlz);
    free(redis->namez);
    free(redis);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct moon_alarms *alarms = handle->data;
    struct moon_redis *redis =
        MOON_CONTAINER(alarms, struct moon_redis, alarms);
    redis->timer_closed = true;
    moon_redis_settle(redis);
}

void moon_redis_settle(struct moon_redis *redis)
{
    if (!redis->closed || redis->links > 0 || redis->pending > 0 ||
        !moon_chain_is_empty(&redis->owns_waiting))
        return;
    if (!redis->timer_closing) {
        redis->timer_closing = true;
        uv_close((uv_handle_t *)&redis->alarms.timer, on_timer_closed);
    }
    /* A walk over the subscriptions holds them until it is over. */
    if (redis->timer_closed && redis->refs == 0 && redis->held == 0 &&
        redis->sub_depth == 0)
        free_client(redis);
}

static void on_closed(struct moon_alarm *alarm)
{
    moon_redis_op_unpark_all(MOON_CONTAINER(alarm, struct moon_redis, parking));
}

static void close_client(struct moon_redis *redis)
{
    struct moon_redis_node *next;
    if (redis->closed)
        return;
    redis->closed = true;
    redis->up = false;
    redis->since_ms = uv_now(redis->loop);
    moon_alarm_clear(&redis->linger);
    moon_redis_sentinel_destroy(redis->sentinel);
    moon_redis_cluster_destroy(redis->cluster);
    redis->sentinel = NULL;
    redis->cluster = NULL;
    for (struct moon_redis_node *node = redis->nodes; node != NULL;
         node = next) {
        next = node->next;
        moon_redis_node_drop(node, true);
    }
    moon_redis_sub_close_all(redis);
    moon_redis_own_close_all(redis);
    moon_alarm_set(&redis->alarms, &redis->parking, 0, on_closed);
    moon_redis_settle(redis);
}

/* ---- the beginning ---- */

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

static void fill_in(struct moon_redis_options *to,
                    const struct moon_redis_options *from)
{
    if (from != NULL)
        *to = *from;
    if (to->connect_timeout_ms == 0)
        to->connect_timeout_ms = 1000;
    if (to->timeout_ms == 0)
        to->timeout_ms = 250;
    if (to->max_pending == 0)
        to->max_pending = 10000;
    if (to->max_bytes == 0)
        to->max_bytes = (uint64_t)16 << 20;
    if (to->max_reply_bytes == 0)
        to->max_reply_bytes = (uint64_t)64 << 20;
    to->max_pending = (uint32_t)at_most(to->max_pending, PENDING_MAX);
    to->max_bytes = at_most(to->max_bytes, (uint64_t)1 << BYTES_MAX_SHIFT);
    to->max_reply_bytes =
        at_most(to->max_reply_bytes, (uint64_t)1 << BYTES_MAX_SHIFT);
    if (to->max_own == 0)
        to->max_own = 64;
    if (to->linger_ms == 0)
        to->linger_ms = 10000;
    if (to->namez == NULL)
        to->namez = "";
}

static bool start(struct moon_redis *redis)
{
    const struct moon_redis_host *first = &redis->url->hosts[0];
    switch (redis->url->kind) {
    case MOON_REDIS_CLUSTER:
        redis->cluster = moon_redis_cluster_create(redis);
        return redis->cluster != NULL;
    case MOON_REDIS_SENTINEL:
        redis->sentinel = moon_redis_sentinel_create(redis);
        return redis->sentinel != NULL &&
               moon_redis_node_create(redis, NULL, 0) != NULL;
    default:
        return moon_redis_node_create(redis, first->hostz, first->port) != NULL;
    }
}

static struct moon_redis *create(uv_loop_t *loop, const char *urlz,
                                 struct moon_redis_url *url,
                                 const struct moon_redis_options *o)
{
    struct moon_redis *redis = calloc(1, sizeof(*redis));
    if (redis == NULL) {
        free(url);
        return NULL;
    }
    redis->loop = loop;
    redis->url = url;
    redis->o = *o;
    redis->urlz = strdup(urlz);
    redis->namez = strdup(o->namez);
    redis->o.namez = redis->namez;
    redis->since_ms = uv_now(loop);
    moon_alarms_init(&redis->alarms, loop);
    moon_chain_init(&redis->parked);
    moon_chain_init(&redis->owns_waiting);
    moon_chain_init(&redis->owns_idle);
    moon_chain_init(&redis->owns_used);
    moon_chain_init(&redis->subs);
    redis->next = registry;
    registry = redis;
    if (redis->urlz == NULL || redis->namez == NULL || !start(redis)) {
        close_client(redis);
        return NULL;
    }
    return redis;
}

static bool is_for(const struct moon_redis *redis, uv_loop_t *loop,
                   const char *urlz, const struct moon_redis_options *o)
{
    const struct moon_redis_options *own = &redis->o;
    return !redis->closed && redis->loop == loop &&
           strcmp(redis->urlz, urlz) == 0 &&
           strcmp(own->namez, o->namez) == 0 &&
           own->connect_timeout_ms == o->connect_timeout_ms &&
           own->timeout_ms == o->timeout_ms &&
           own->max_pending == o->max_pending &&
           own->max_bytes == o->max_bytes &&
           own->max_reply_bytes == o->max_reply_bytes &&
           own->max_own == o->max_own && own->linger_ms == o->linger_ms;
}

enum moon_err moon_redis_get(uv_loop_t *loop, const char *urlz,
                             const struct moon_redis_options *options,
                             struct moon_redis **out, char *error,
                             size_t error_size)
{
    struct moon_redis_options o = {0};
    struct moon_redis_url *url;
    uint32_t count = 0;
    fill_in(&o, options);
    for (struct moon_redis *at = registry; at != NULL; at = at->next, count++) {
        if (is_for(at, loop, urlz, &o)) {
            moon_redis_ref(at);
            *out = at;
            return MOON_OK;
        }
    }
    enum moon_err err =
        moon_redis_url_parse(moon_strz(urlz), &url, error, error_size);
    if (err != MOON_OK)
        return err;
    if (count >= MOON_REDIS_CLIENTS_MAX) {
        (void)snprintf(error, error_size,
                       "there are %u clients with other URLs or options",
                       count);
        free(url);
        return MOON_EFULL;
    }
    struct moon_redis *redis = create(loop, urlz, url, &o);
    if (redis == NULL) {
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    redis->refs = 1;
    *out = redis;
    return MOON_OK;
}

/* ---- references ---- */

static void on_linger(struct moon_alarm *alarm)
{
    close_client(MOON_CONTAINER(alarm, struct moon_redis, linger));
}

void moon_redis_ref(struct moon_redis *redis)
{
    redis->refs++;
    moon_alarm_clear(&redis->linger);
}

void moon_redis_unref(struct moon_redis *redis)
{
    if (--redis->refs > 0)
        return;
    if (redis->closed)
        moon_redis_settle(redis);
    else
        moon_alarm_set(&redis->alarms, &redis->linger, redis->o.linger_ms,
                       on_linger);
}

void moon_redis_close_all(void)
{
    struct moon_redis *next;
    for (struct moon_redis *redis = registry; redis != NULL; redis = next) {
        next = redis->next;
        close_client(redis);
    }
}

/* ---- what others may know ---- */

void moon_redis_get_status(const struct moon_redis *redis,
                           struct moon_redis_status *status)
{
    *status = (struct moon_redis_status){
        .urlz = redis->url->shownz,
        .since_ms = redis->since_ms,
        .pending = redis->pending,
        .commands = redis->commands,
        .errors = redis->errors,
        .timeouts = redis->timeouts,
        .reconnects = redis->reconnects,
    };
    status->up = is_up(redis, &status->whyz);
}
