#include "state/redis_sentinel.h"

#include "state/redis_node.h"
#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KNOWN_MAX = MOON_REDIS_HOSTS_MAX,
    WATCH_AGAIN_MS = 1000,
    WATCH_TIMEOUT_MS = 2000,
};

struct place {
    char hostz[MOON_REDIS_HOST];
    uint16_t port;
};

/* A link to a sentinel: to ask, or to watch. */
struct visit {
    struct moon_redis_sentinel *sentinel;
    struct moon_redis_link *link; /* NULL: none */
};

struct moon_redis_sentinel {
    struct moon_redis *redis;
    bool destroyed;
    uint32_t links; /* not gone yet */
    struct place known[KNOWN_MAX];
    uint32_t count;

    bool asking;
    uint32_t at; /* which is asked */
    struct visit *ask;
    struct moon_alarm ask_alarm;
    struct place found; /* while the rest of the answer comes; port 0: none */
    char why[MOON_REDIS_WHY];

    struct visit *watch;
    struct moon_alarm watch_alarm; /* try again, or ping */
};

static void ask_next(struct moon_redis_sentinel *sentinel);
static void start_watch(struct moon_redis_sentinel *sentinel);
static void watch_later(struct moon_redis_sentinel *sentinel);

/* ---- links ---- */

static void free_sentinel(struct moon_redis_sentinel *sentinel)
{
    if (sentinel->destroyed && sentinel->links == 0)
        free(sentinel);
}

static void on_gone(void *ctx)
{
    struct visit *visit = ctx;
    struct moon_redis_sentinel *sentinel = visit->sentinel;
    struct moon_redis *redis = sentinel->redis;
    free(visit);
    sentinel->links--;
    free_sentinel(sentinel);
    moon_redis_link_gone(redis);
}

static void leave(struct visit **at)
{
    if (*at != NULL)
        moon_redis_link_destroy((*at)->link);
    *at = NULL;
}

static struct visit *open_visit(struct moon_redis_sentinel *sentinel,
                                const struct place *place, uint64_t timeout_ms,
                                struct moon_redis_link_owner owner)
{
    struct visit *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return NULL;
    made->sentinel = sentinel;
    owner.ctx = made;
    owner.on_gone = on_gone;
    made->link =
        moon_redis_open_link(sentinel->redis, place->hostz, place->port,
                             MOON_REDIS_ASK, timeout_ms, &owner);
    if (made->link == NULL) {
        free(made);
        return NULL;
    }
    sentinel->links++;
    return made;
}

/* ---- who is known ---- */

static bool is_known(const struct moon_redis_sentinel *sentinel,
                     const struct place *place)
{
    for (uint32_t i = 0; i < sentinel->count; i++) {
        if (sentinel->known[i].port == place->port &&
            strcmp(sentinel->known[i].hostz, place->hostz) == 0)
            return true;
    }
    return false;
}

static void add_known(struct moon_redis_sentinel *sentinel,
                      const struct place *place)
{
    if (sentinel->count < KNOWN_MAX && !is_known(sentinel, place))
        sentinel->known[sentinel->count++] = *place;
}

static bool make_place(struct place *place, struct moon_str host,
                       struct moon_str port)
{
    uint64_t number;
    if (host.len == 0 || host.len >= sizeof(place->hostz) ||
        memchr(host.ptr, '\0', host.len) != NULL ||
        !moon_str_to_u64(port, &number) || number == 0 || number > 65535)
        return false;
    memcpy(place->hostz, host.ptr, host.len);
    place->hostz[host.len] = '\0';
    place->port = (uint16_t)number;
    return true;
}

/* The one that answered first, then those it knows, then those of the URL. */
static void learn(struct moon_redis_sentinel *sentinel,
                  const struct redisReply *others)
{
    struct place answered = sentinel->known[sentinel->at];
    sentinel->count = 0;
    add_known(sentinel, &answered);
    for (size_t i = 0; moon_redis_item(others, i) != NULL; i++) {
        const struct redisReply *map = moon_redis_item(others, i);
        struct moon_str host = MOON_STR(""), port = MOON_STR("");
        struct place place;
        for (size_t k = 0; moon_redis_item(map, k + 1) != NULL; k += 2) {
            struct moon_str name = moon_redis_text(moon_redis_item(map, k));
            struct moon_str value =
                moon_redis_text(moon_redis_item(map, k + 1));
            if (moon_str_eq(name, MOON_STR("ip")))
                host = value;
            else if (moon_str_eq(name, MOON_STR("port")))
                port = value;
        }
        if (make_place(&place, host, port))
            add_known(sentinel, &place);
    }
    const struct moon_redis_url *url = sentinel->redis->url;
    for (uint32_t i = 0; i < url->host_count; i++) {
        struct place place = {.port = url->hosts[i].port};
        (void)snprintf(place.hostz, sizeof(place.hostz), "%s",
                       url->hosts[i].hostz);
        add_known(sentinel, &place);
    }
}

/* ---- asking ---- */

static void finish(struct moon_redis_sentinel *sentinel)
{
    bool found = sentinel->found.port != 0;
    sentinel->asking = false;
    moon_alarm_clear(&sentinel->ask_alarm);
    leave(&sentinel->ask);
    if (found && sentinel->watch == NULL)
        start_watch(sentinel);
    else if (sentinel->watch == NULL)
        watch_later(sentinel);
    moon_redis_node_found(sentinel->redis->nodes,
                          found ? sentinel->found.hostz : NULL,
                          sentinel->found.port, sentinel->why);
}

/* From the loop: this one does not know. */
static void give_up(struct moon_redis_sentinel *sentinel, const char *whyz)
{
    const struct place *place = &sentinel->known[sentinel->at];
    (void)snprintf(sentinel->why, sizeof(sentinel->why),
                   "no sentinel knows where the master is; %.60s:%u: %.60s",
                   place->hostz, place->port, whyz);
    leave(&sentinel->ask);
    sentinel->at++;
    ask_next(sentinel);
}

static void on_ask_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct visit *visit = ctx;
    (void)err;
    if (visit == visit->sentinel->ask)
        give_up(visit->sentinel, whyz);
}

static void on_ask_late(struct moon_alarm *alarm)
{
    struct moon_redis_sentinel *sentinel =
        MOON_CONTAINER(alarm, struct moon_redis_sentinel, ask_alarm);
    if (sentinel->ask != NULL)
        give_up(sentinel, "timeout");
    else
        ask_next(sentinel);
}

static void on_master(void *ctx, struct moon_wire_result *result)
{
    struct visit *visit = ctx;
    struct moon_redis_sentinel *sentinel = visit->sentinel;
    const struct redisReply *reply = result->reply;
    if (visit != sentinel->ask || result->err != MOON_OK)
        return; /* its end is told by on_ask_down */
    struct moon_str host = moon_redis_text(moon_redis_item(reply, 0));
    struct moon_str port = moon_redis_text(moon_redis_item(reply, 1));
    if (make_place(&sentinel->found, host, port))
        return; /* the list of sentinels follows */
    char why[MOON_REDIS_WHY];
    struct moon_str text = moon_redis_text(reply);
    if (moon_redis_is_error(reply))
        (void)snprintf(why, sizeof(why), "%.*s",
                       text.len > 100 ? 100 : (int)text.len, text.ptr);
    else
        (void)snprintf(why, sizeof(why), "it does not know \"%.60s\"",
                       sentinel->redis->url->masterz);
    give_up(sentinel, why);
}

static void on_others(void *ctx, struct moon_wire_result *result)
{
    struct visit *visit = ctx;
    if (visit != visit->sentinel->ask || result->err != MOON_OK)
        return;
    learn(visit->sentinel, result->reply);
    finish(visit->sentinel);
}

static enum moon_err ask(struct visit *visit, const char *whatz,
                         moon_wire_done *done)
{
    struct moon_redis *redis = visit->sentinel->redis;
    const struct moon_str argv[] = {MOON_STR("SENTINEL"), moon_strz(whatz),
                                    moon_strz(redis->url->masterz)};
    return moon_redis_link_send(visit->link, argv, 3, moon_redis_ask_ms(redis),
                                done, visit, NULL);
}

static void on_ask_ready(void *ctx)
{
    struct visit *visit = ctx;
    if (visit != visit->sentinel->ask)
        return;
    enum moon_err err = ask(visit, "get-master-addr-by-name", on_master);
    if (err == MOON_OK)
        err = ask(visit, "sentinels", on_others);
    if (err != MOON_OK)
        give_up(visit->sentinel, moon_err_text(err));
}

/* From the loop. */
static void ask_next(struct moon_redis_sentinel *sentinel)
{
    const struct moon_redis_link_owner owner = {.on_ready = on_ask_ready,
                                                .on_down = on_ask_down};
    sentinel->found.port = 0;
    if (sentinel->at >= sentinel->count) {
        finish(sentinel);
        return;
    }
    sentinel->ask = open_visit(sentinel, &sentinel->known[sentinel->at],
                               moon_redis_ask_ms(sentinel->redis), owner);
    if (sentinel->ask == NULL)
        (void)snprintf(sentinel->why, sizeof(sentinel->why), "%s",
                       moon_err_text(MOON_ENOMEM));
    moon_alarm_set(&sentinel->redis->alarms, &sentinel->ask_alarm,
                   moon_redis_ask_ms(sentinel->redis), on_ask_late);
}

void moon_redis_sentinel_find(struct moon_redis_sentinel *sentinel)
{
    if (sentinel->asking)
        return;
    sentinel->asking = true;
    sentinel->at = 0;
    /* From the loop, for the first may be refused at once. */
    moon_alarm_set(&sentinel->redis->alarms, &sentinel->ask_alarm, 0,
                   on_ask_late);
}

/* ---- watching ---- */

static void on_watch_again(struct moon_alarm *alarm)
{
    struct moon_redis_sentinel *sentinel =
        MOON_CONTAINER(alarm, struct moon_redis_sentinel, watch_alarm);
    /* What was missed meanwhile is asked for; that starts the watch too. */
    moon_redis_sentinel_find(sentinel);
}

static void watch_later(struct moon_redis_sentinel *sentinel)
{
    moon_alarm_set(&sentinel->redis->alarms, &sentinel->watch_alarm,
                   moon_redis_jitter(WATCH_AGAIN_MS), on_watch_again);
}

static void lose_watch(struct moon_redis_sentinel *sentinel)
{
    leave(&sentinel->watch);
    watch_later(sentinel);
}

static void on_watch_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct visit *visit = ctx;
    (void)err;
    (void)whyz;
    if (visit == visit->sentinel->watch)
        lose_watch(visit->sentinel);
}

/* "mymaster old-ip old-port new-ip new-port" */
static void on_switch(struct moon_redis_sentinel *sentinel,
                      struct moon_str text)
{
    struct moon_str parts[5];
    struct place place;
    for (size_t i = 0; i < MOON_COUNT(parts); i++)
        parts[i] = moon_str_cut(text, ' ', &text);
    if (moon_str_eq(parts[0], moon_strz(sentinel->redis->url->masterz)) &&
        make_place(&place, parts[3], parts[4]))
        moon_redis_node_found(sentinel->redis->nodes, place.hostz, place.port,
                              "");
}

static bool on_watch_push(void *ctx, const void *message)
{
    struct visit *visit = ctx;
    const struct redisReply *kind = moon_redis_item(message, 0);
    const struct redisReply *text = moon_redis_item(message, 2);
    if (!moon_str_eq(moon_redis_text(kind), MOON_STR("message")))
        return false;
    if (visit == visit->sentinel->watch)
        on_switch(visit->sentinel, moon_redis_text(text));
    return true;
}

static void on_watch_ping(struct moon_alarm *alarm);

static void watch_send(struct visit *visit, const struct moon_str *argv,
                       uint32_t argc)
{
    struct moon_redis_sentinel *sentinel = visit->sentinel;
    if (moon_redis_link_send(visit->link, argv, argc, WATCH_TIMEOUT_MS, NULL,
                             NULL, NULL) == MOON_OK)
        moon_alarm_set(&sentinel->redis->alarms, &sentinel->watch_alarm,
                       MOON_REDIS_PING_MS, on_watch_ping);
    else
        lose_watch(sentinel);
}

static void on_watch_ping(struct moon_alarm *alarm)
{
    struct moon_redis_sentinel *sentinel =
        MOON_CONTAINER(alarm, struct moon_redis_sentinel, watch_alarm);
    watch_send(sentinel->watch, &MOON_STR("PING"), 1);
}

static void on_watch_ready(void *ctx)
{
    struct visit *visit = ctx;
    if (visit == visit->sentinel->watch)
        watch_send(visit,
                   (struct moon_str[]){MOON_STR("SUBSCRIBE"),
                                       MOON_STR("+switch-master")},
                   2);
}

/* At the one that answered last. */
static void start_watch(struct moon_redis_sentinel *sentinel)
{
    const struct moon_redis_link_owner owner = {.on_ready = on_watch_ready,
                                                .on_down = on_watch_down,
                                                .on_push = on_watch_push};
    moon_alarm_clear(&sentinel->watch_alarm);
    sentinel->watch =
        open_visit(sentinel, &sentinel->known[0], WATCH_TIMEOUT_MS, owner);
    if (sentinel->watch == NULL)
        lose_watch(sentinel);
}

/* ---- life ---- */

struct moon_redis_sentinel *moon_redis_sentinel_create(struct moon_redis *redis)
{
    struct moon_redis_sentinel *sentinel = calloc(1, sizeof(*sentinel));
    if (sentinel == NULL)
        return NULL;
    sentinel->redis = redis;
    for (uint32_t i = 0; i < redis->url->host_count; i++) {
        struct place *place = &sentinel->known[sentinel->count++];
        place->port = redis->url->hosts[i].port;
        (void)snprintf(place->hostz, sizeof(place->hostz), "%s",
                       redis->url->hosts[i].hostz);
    }
    return sentinel;
}

void moon_redis_sentinel_destroy(struct moon_redis_sentinel *sentinel)
{
    if (sentinel == NULL)
        return;
    moon_alarm_clear(&sentinel->ask_alarm);
    moon_alarm_clear(&sentinel->watch_alarm);
    sentinel->destroyed = true;
    leave(&sentinel->ask);
    leave(&sentinel->watch);
    free_sentinel(sentinel);
}
