#include "state/redis_internal.h"

#include "state/redis_node.h"
#include "state/redis_proto.h"

#include <stdlib.h>

enum state {
    NEW,     /* nobody was asked yet */
    ASKED,   /* SUBSCRIBE is under way */
    ACTIVE,  /* messages arrive */
    REFUSED, /* for good */
};

struct moon_redis_sub {
    struct moon_chain chain; /* redis->subs */
    struct moon_redis *redis;
    struct moon_redis_listener listener;
    enum state state;
    bool pattern;
    bool ended; /* unsubscribed while somebody walks over the ring */
    uint64_t ticket;
    size_t len;
    char name[];
};

static void on_alarm(struct moon_alarm *alarm);
static void lose(struct moon_redis *redis, const char *whyz);

static struct moon_redis_sub *sub_of(struct moon_chain *link)
{
    return MOON_CONTAINER(link, struct moon_redis_sub, chain);
}

static struct moon_str name_of(const struct moon_redis_sub *sub)
{
    return moon_str(sub->name, sub->len);
}

static bool has_link(const struct moon_redis *redis)
{
    return redis->sub_link != NULL && moon_redis_link_is_ready(redis->sub_link);
}

/* ---- callbacks, in which everything may be called ---- */

static void free_sub(struct moon_redis_sub *sub)
{
    moon_chain_remove(&sub->chain);
    free(sub);
}

static void enter(struct moon_redis *redis)
{
    redis->sub_depth++;
}

static void leave(struct moon_redis *redis)
{
    struct moon_chain *next;
    if (--redis->sub_depth > 0)
        return;
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs; i = next) {
        next = i->next;
        if (sub_of(i)->ended)
            free_sub(sub_of(i));
    }
    moon_redis_settle(redis);
}

static void tell(struct moon_redis_sub *sub, enum moon_redis_news news,
                 const char *whyz)
{
    struct moon_redis *redis = sub->redis;
    if (sub->ended || sub->listener.on_news == NULL)
        return;
    enter(redis);
    sub->listener.on_news(sub->listener.ctx, news, whyz);
    leave(redis);
}

static void deliver(struct moon_redis *redis, bool pattern,
                    struct moon_str name, struct moon_str channel,
                    struct moon_str payload)
{
    enter(redis);
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs;
         i = i->next) {
        struct moon_redis_sub *sub = sub_of(i);
        if (!sub->ended && sub->state == ACTIVE && sub->pattern == pattern &&
            moon_str_eq(name_of(sub), name))
            sub->listener.on_message(sub->listener.ctx, channel, payload);
    }
    leave(redis);
}

/* ["message", channel, payload] or ["pmessage", pattern, channel, payload] */
static bool on_push(void *ctx, const void *reply)
{
    struct moon_redis *redis = ctx;
    struct moon_str kind = moon_redis_text(moon_redis_item(reply, 0));
    struct moon_str name = moon_redis_text(moon_redis_item(reply, 1));
    bool pattern = moon_str_eq(kind, MOON_STR("pmessage"));
    if (!pattern && !moon_str_eq(kind, MOON_STR("message")))
        return false;
    struct moon_str channel =
        pattern ? moon_redis_text(moon_redis_item(reply, 2)) : name;
    struct moon_str payload =
        moon_redis_text(moon_redis_item(reply, pattern ? 3 : 2));
    deliver(redis, pattern, name, channel, payload);
    return true;
}

/* ---- the link ---- */

static void on_confirmed(void *ctx, struct moon_wire_result *result)
{
    struct moon_redis_sub *sub = ctx;
    if (result->err != MOON_OK) {
        lose(sub->redis, "no answer to SUBSCRIBE"); /* in time */
    } else if (moon_redis_is_error(result->reply)) {
        sub->state = REFUSED;
        struct moon_str text = moon_redis_text(result->reply);
        char why[MOON_REDIS_WHY];
        size_t len = text.len < sizeof(why) ? text.len : sizeof(why) - 1;
        memcpy(why, text.ptr, len);
        why[len] = '\0';
        tell(sub, MOON_REDIS_REFUSED, why);
    } else {
        sub->state = ACTIVE;
        tell(sub, MOON_REDIS_SUBSCRIBED, "");
    }
}

static void ask(struct moon_redis_sub *sub)
{
    const struct moon_str argv[2] = {sub->pattern ? MOON_STR("PSUBSCRIBE")
                                                  : MOON_STR("SUBSCRIBE"),
                                     name_of(sub)};
    struct moon_redis *redis = sub->redis;
    if (moon_redis_link_send(redis->sub_link, argv, 2,
                             redis->o.connect_timeout_ms, on_confirmed, sub,
                             &sub->ticket) == MOON_OK)
        sub->state = ASKED;
}

static void ask_all(struct moon_redis *redis)
{
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs;
         i = i->next) {
        if (sub_of(i)->state == NEW && !sub_of(i)->ended)
            ask(sub_of(i));
    }
}

static void alarm_in(struct moon_redis *redis, uint64_t after_ms)
{
    moon_alarm_set(&redis->alarms, &redis->sub_alarm, after_ms, on_alarm);
}

/* The link is closed; nobody is told. */
static void close_link(struct moon_redis *redis)
{
    if (redis->sub_link == NULL)
        return;
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs;
         i = i->next) {
        if (sub_of(i)->state == ASKED) {
            moon_wire_cancel(moon_redis_link_wire(redis->sub_link),
                             sub_of(i)->ticket, 1);
            sub_of(i)->state = NEW;
        }
    }
    moon_redis_link_destroy(redis->sub_link);
    redis->sub_link = NULL;
}

/* From the loop: it broke. */
static void lose(struct moon_redis *redis, const char *whyz)
{
    close_link(redis);
    alarm_in(redis, moon_redis_backoff(redis->sub_failures++,
                                       MOON_REDIS_BACKOFF_MAX_MS));
    enter(redis);
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs;
         i = i->next) {
        if (sub_of(i)->state != ACTIVE)
            continue;
        sub_of(i)->state = NEW;
        tell(sub_of(i), MOON_REDIS_LOST, whyz);
    }
    leave(redis);
}

static void on_ready(void *ctx)
{
    struct moon_redis *redis = ctx;
    redis->sub_failures = 0;
    ask_all(redis);
    alarm_in(redis, MOON_REDIS_PING_MS);
}

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    (void)err;
    lose(ctx, whyz);
}

static void on_gone(void *ctx)
{
    moon_redis_link_gone(ctx);
}

/* From the loop. */
static void open_link(struct moon_redis *redis)
{
    struct moon_redis_node *node;
    const struct moon_redis_link_owner owner = {redis, on_ready, on_down,
                                                on_push, on_gone};
    enum moon_redis_role role =
        redis->sentinel != NULL ? MOON_REDIS_MASTER : MOON_REDIS_ANY;
    if (moon_chain_is_empty(&redis->subs) || redis->closed ||
        moon_redis_route(redis, -1, &node) != MOON_OK)
        return; /* moon_redis_sub_changed comes back to it */
    redis->sub_node = node;
    redis->sub_link = moon_redis_open_link(redis, node->hostz, node->port, role,
                                           redis->o.connect_timeout_ms, &owner);
    if (redis->sub_link == NULL)
        alarm_in(redis, MOON_REDIS_BACKOFF_MAX_MS);
}

static void on_alarm(struct moon_alarm *alarm)
{
    struct moon_redis *redis =
        MOON_CONTAINER(alarm, struct moon_redis, sub_alarm);
    if (redis->sub_link == NULL) {
        open_link(redis);
    } else if (redis->sub_node == NULL) {
        lose(redis, "the master moves");
    } else if (has_link(redis)) {
        /* Nobody may speak for long: is there anybody? */
        if (moon_redis_link_send(redis->sub_link, &MOON_STR("PING"), 1,
                                 redis->o.connect_timeout_ms, NULL, NULL,
                                 NULL) != MOON_OK)
            return; /* broken: told by on_down */
        alarm_in(redis, MOON_REDIS_PING_MS);
    }
}

void moon_redis_sub_changed(struct moon_redis *redis)
{
    if (redis->sub_link == NULL && !moon_alarm_is_set(&redis->sub_alarm))
        open_link(redis);
}

void moon_redis_sub_leave(struct moon_redis *redis,
                          const struct moon_redis_node *node)
{
    if (redis->sub_link == NULL || redis->sub_node != node)
        return;
    redis->sub_node = NULL;
    alarm_in(redis, 0);
}

void moon_redis_sub_close_all(struct moon_redis *redis)
{
    moon_alarm_clear(&redis->sub_alarm);
    close_link(redis);
}

/* ---- subscriptions ---- */

enum moon_err moon_redis_subscribe(struct moon_redis *redis,
                                   struct moon_str name, bool pattern,
                                   const struct moon_redis_listener *listener,
                                   struct moon_redis_sub **out)
{
    if (redis->closed)
        return moon_redis_refuse(MOON_ECLOSED, "the client is closed");
    struct moon_redis_sub *sub = calloc(1, sizeof(*sub) + name.len);
    if (sub == NULL)
        return moon_redis_refuse(MOON_ENOMEM, "%s", moon_err_text(MOON_ENOMEM));
    sub->redis = redis;
    sub->listener = *listener;
    sub->pattern = pattern;
    sub->len = name.len;
    if (name.len > 0)
        memcpy(sub->name, name.ptr, name.len);
    moon_chain_add(&redis->subs, &sub->chain);
    redis->held++;
    if (has_link(redis))
        ask(sub);
    else if (redis->sub_link == NULL && !moon_alarm_is_set(&redis->sub_alarm))
        alarm_in(redis, 0);
    *out = sub;
    return MOON_OK;
}

static bool wanted_by_others(const struct moon_redis_sub *sub)
{
    const struct moon_chain *ring = &sub->redis->subs;
    for (struct moon_chain *i = ring->next; i != ring; i = i->next) {
        const struct moon_redis_sub *other = sub_of(i);
        if (other != sub && !other->ended && other->pattern == sub->pattern &&
            moon_str_eq(name_of(other), name_of(sub)))
            return true;
    }
    return false;
}

static bool any_left(const struct moon_redis *redis)
{
    for (struct moon_chain *i = redis->subs.next; i != &redis->subs;
         i = i->next) {
        if (!sub_of(i)->ended)
            return true;
    }
    return false;
}

static void tell_server(struct moon_redis_sub *sub)
{
    struct moon_redis *redis = sub->redis;
    const struct moon_str argv[2] = {sub->pattern ? MOON_STR("PUNSUBSCRIBE")
                                                  : MOON_STR("UNSUBSCRIBE"),
                                     name_of(sub)};
    if (sub->state == ASKED)
        moon_wire_cancel(moon_redis_link_wire(redis->sub_link), sub->ticket, 1);
    if (sub->state == NEW || sub->state == REFUSED || wanted_by_others(sub) ||
        !has_link(redis))
        return;
    /* If that fails, what still comes is for nobody. */
    enum moon_err err =
        moon_redis_link_send(redis->sub_link, argv, 2,
                             redis->o.connect_timeout_ms, NULL, NULL, NULL);
    (void)err;
}

void moon_redis_unsubscribe(struct moon_redis_sub *sub)
{
    struct moon_redis *redis = sub->redis;
    tell_server(sub);
    sub->ended = true;
    redis->held--;
    if (!any_left(redis)) {
        moon_alarm_clear(&redis->sub_alarm);
        close_link(redis);
    }
    if (redis->sub_depth == 0)
        free_sub(sub);
    moon_redis_settle(redis);
}
