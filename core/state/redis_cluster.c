#include "state/redis_cluster.h"

#include "base/log.h"
#include "state/redis_node.h"
#include "state/redis_proto.h"
#include "state/redis_slot.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REFRESH_MS = 100,    /* from one question to the next */
    STRAY_MS = 10000,    /* a node without slots is kept for that long */
    CANDIDATES_MAX = 64, /* of whom may be asked for the map */
    NODES_MAX = 1000,
};

/* The link over which the map is asked for. */
struct visit {
    struct moon_redis_cluster *cluster;
    struct moon_redis_link *link;
    char hostz[MOON_REDIS_HOST];
};

struct candidate {
    const char *hostz;
    uint16_t port;
};

struct moon_redis_cluster {
    struct moon_redis *redis;
    bool destroyed;
    uint32_t links;                                  /* not gone yet */
    struct moon_redis_node *slots[MOON_REDIS_SLOTS]; /* NULL: nobody has it */
    bool known;                                      /* there has been a map */
    bool down; /* there was none, and the last question failed too */
    bool asking;
    struct visit *ask;
    uint32_t at; /* which candidate is asked */
    uint32_t failures;
    uint64_t asked_ms;
    struct moon_alarm alarm; /* ask again, or the answer is late */
    char why[MOON_REDIS_WHY];
    char logged[MOON_REDIS_WHY];
};

static void ask_next(struct moon_redis_cluster *cluster);

/* ---- nodes ---- */

static struct moon_redis_node *node_at(struct moon_redis_cluster *cluster,
                                       const char *hostz, uint16_t port)
{
    uint32_t count = 0;
    for (struct moon_redis_node *node = cluster->redis->nodes; node != NULL;
         node = node->next) {
        if (!node->dropped && moon_redis_node_is_at(node, hostz, port))
            return node;
        count++;
    }
    return count < NODES_MAX
               ? moon_redis_node_create(cluster->redis, hostz, port)
               : NULL;
}

/* Masters no more, and nobody pointed to them of late. */
static void drop_strays(struct moon_redis_cluster *cluster)
{
    uint64_t now = uv_now(cluster->redis->loop);
    struct moon_redis_node *next;
    for (struct moon_redis_node *node = cluster->redis->nodes; node != NULL;
         node = next) {
        next = node->next;
        if (!node->in_map && !node->dropped &&
            (node->state == MOON_REDIS_DOWN || now - node->used_ms >= STRAY_MS))
            moon_redis_node_drop(node, false);
    }
}

/* ---- the map ---- */

static void say(struct moon_redis_cluster *cluster, const char *whyz)
{
    if (strcmp(cluster->logged, whyz) == 0)
        return;
    (void)snprintf(cluster->logged, sizeof(cluster->logged), "%s", whyz);
    if (whyz[0] == '\0')
        moon_log(MOON_LOG_INFO, "redis %s: the cluster answers again",
                 cluster->redis->url->shownz);
    else
        moon_log(MOON_LOG_WARN, "redis %s is down: %s",
                 cluster->redis->url->shownz, whyz);
}

static bool copy_host(char *to, struct moon_str host, const char *ownz)
{
    /* A node that does not know its address means: where you asked. */
    if (host.len == 0 || moon_str_eq(host, MOON_STR("?")))
        host = moon_strz(ownz);
    if (host.len >= MOON_REDIS_HOST || memchr(host.ptr, '\0', host.len) != NULL)
        return false;
    memcpy(to, host.ptr, host.len);
    to[host.len] = '\0';
    return true;
}

/* [first slot, last slot, [host, port, ...] of the master, replicas ...] */
static bool use_range(struct moon_redis_cluster *cluster,
                      const struct redisReply *range, const char *ownz)
{
    const struct redisReply *first = moon_redis_item(range, 0);
    const struct redisReply *last = moon_redis_item(range, 1);
    const struct redisReply *master = moon_redis_item(range, 2);
    const struct redisReply *port = moon_redis_item(master, 1);
    char hostz[MOON_REDIS_HOST];
    if (port == NULL || port->integer < 1 || port->integer > 65535 ||
        first->integer < 0 || last->integer >= MOON_REDIS_SLOTS ||
        !copy_host(hostz, moon_redis_text(moon_redis_item(master, 0)), ownz))
        return false;
    struct moon_redis_node *node =
        node_at(cluster, hostz, (uint16_t)port->integer);
    if (node == NULL)
        return false;
    node->in_map = true;
    for (long long slot = first->integer; slot <= last->integer; slot++)
        cluster->slots[slot] = node;
    return true;
}

static bool use_map(struct moon_redis_cluster *cluster,
                    const struct redisReply *map, const char *ownz)
{
    bool any = false;
    if (moon_redis_item(map, 0) == NULL)
        return false;
    for (struct moon_redis_node *node = cluster->redis->nodes; node != NULL;
         node = node->next)
        node->in_map = false;
    memset(cluster->slots, 0, sizeof(cluster->slots));
    for (size_t i = 0; moon_redis_item(map, i) != NULL; i++)
        any = use_range(cluster, moon_redis_item(map, i), ownz) || any;
    drop_strays(cluster);
    return any;
}

/* ---- asking for it ---- */

static void free_cluster(struct moon_redis_cluster *cluster)
{
    if (cluster->destroyed && cluster->links == 0)
        free(cluster);
}

static void on_gone(void *ctx)
{
    struct visit *visit = ctx;
    struct moon_redis_cluster *cluster = visit->cluster;
    struct moon_redis *redis = cluster->redis;
    free(visit);
    cluster->links--;
    free_cluster(cluster);
    moon_redis_link_gone(redis);
}

static void leave(struct moon_redis_cluster *cluster)
{
    if (cluster->ask != NULL)
        moon_redis_link_destroy(cluster->ask->link);
    cluster->ask = NULL;
}

static void on_again(struct moon_alarm *alarm)
{
    struct moon_redis_cluster *cluster =
        MOON_CONTAINER(alarm, struct moon_redis_cluster, alarm);
    cluster->asking = true;
    cluster->at = 0;
    cluster->asked_ms = uv_now(cluster->redis->loop);
    ask_next(cluster);
}

static void ask_in(struct moon_redis_cluster *cluster, uint64_t after_ms)
{
    moon_alarm_set(&cluster->redis->alarms, &cluster->alarm, after_ms,
                   on_again);
}

static bool a_master_is_down(const struct moon_redis_cluster *cluster)
{
    for (const struct moon_redis_node *node = cluster->redis->nodes;
         node != NULL; node = node->next) {
        if (node->in_map && node->state == MOON_REDIS_DOWN)
            return true;
    }
    return false;
}

/* From the loop: a map, or no more candidates. While something is wrong the
 * question is asked again. */
static void finish(struct moon_redis_cluster *cluster, bool found)
{
    bool bad = !found;
    cluster->asking = false;
    moon_alarm_clear(&cluster->alarm);
    leave(cluster);
    if (found) {
        cluster->known = true;
        cluster->down = false;
        cluster->why[0] = '\0';
        bad = a_master_is_down(cluster);
    } else if (!cluster->known) {
        cluster->down = true;
    }
    if (found || cluster->down)
        say(cluster, cluster->why);
    cluster->failures = bad ? cluster->failures + 1 : 0;
    if (bad)
        ask_in(cluster,
               moon_redis_backoff(cluster->failures - 1,
                                  cluster->known ? MOON_REDIS_BACKOFF_MAX_MS
                                                 : MOON_REDIS_BACKOFF_NEW_MS));
    moon_redis_changed(cluster->redis);
}

static void give_up(struct moon_redis_cluster *cluster, const char *whyz)
{
    (void)snprintf(cluster->why, sizeof(cluster->why), "%.60s: %.90s",
                   cluster->ask != NULL ? cluster->ask->hostz : "no link",
                   whyz);
    leave(cluster);
    cluster->at++;
    ask_next(cluster);
}

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct visit *visit = ctx;
    (void)err;
    if (visit == visit->cluster->ask)
        give_up(visit->cluster, whyz);
}

static void on_late(struct moon_alarm *alarm)
{
    give_up(MOON_CONTAINER(alarm, struct moon_redis_cluster, alarm), "timeout");
}

static void on_map(void *ctx, struct moon_wire_result *result)
{
    struct visit *visit = ctx;
    struct moon_redis_cluster *cluster = visit->cluster;
    const struct redisReply *reply = result->reply;
    if (visit != cluster->ask || result->err != MOON_OK)
        return; /* its end is told by on_down */
    if (use_map(cluster, reply, visit->hostz)) {
        finish(cluster, true);
        return;
    }
    char why[MOON_REDIS_WHY];
    struct moon_str text = moon_redis_text(reply);
    (void)snprintf(why, sizeof(why), "%.*s",
                   text.len > 100 ? 100 : (int)text.len, text.ptr);
    give_up(cluster, text.len > 0 ? why : "no slot has a master yet");
}

static void on_ready(void *ctx)
{
    struct visit *visit = ctx;
    const struct moon_str argv[] = {MOON_STR("CLUSTER"), MOON_STR("SLOTS")};
    if (visit != visit->cluster->ask)
        return;
    enum moon_err err = moon_redis_link_send(
        visit->link, argv, 2, moon_redis_ask_ms(visit->cluster->redis), on_map,
        visit, NULL);
    if (err != MOON_OK)
        give_up(visit->cluster, moon_err_text(err));
}

/* Those that serve, then other nodes, then the hosts of the URL; beginning at a
 * random one of the first. */
static uint32_t list_candidates(const struct moon_redis_cluster *cluster,
                                struct candidate *list)
{
    const struct moon_redis *redis = cluster->redis;
    uint32_t count = 0;
    for (int up = 1; up >= 0; up--) {
        for (const struct moon_redis_node *node = redis->nodes;
             node != NULL && count < CANDIDATES_MAX / 2; node = node->next) {
            if (!node->dropped && (node->state == MOON_REDIS_UP) == (up == 1))
                list[count++] = (struct candidate){node->hostz, node->port};
        }
        if (up == 1 && count > 1) {
            struct candidate first = list[0];
            uint64_t swap = moon_redis_jitter(count) - 1;
            list[0] = list[swap];
            list[swap] = first;
        }
    }
    for (uint32_t i = 0; i < redis->url->host_count; i++)
        list[count++] = (struct candidate){redis->url->hosts[i].hostz,
                                           redis->url->hosts[i].port};
    return count;
}

static struct visit *open_visit(struct moon_redis_cluster *cluster,
                                const struct candidate *candidate)
{
    struct visit *visit = calloc(1, sizeof(*visit));
    if (visit == NULL)
        return NULL;
    const struct moon_redis_link_owner owner = {visit, on_ready, on_down, NULL,
                                                on_gone};
    visit->cluster = cluster;
    (void)snprintf(visit->hostz, sizeof(visit->hostz), "%s", candidate->hostz);
    visit->link = moon_redis_open_link(
        cluster->redis, candidate->hostz, candidate->port, MOON_REDIS_ANY,
        moon_redis_ask_ms(cluster->redis), &owner);
    if (visit->link == NULL) {
        free(visit);
        return NULL;
    }
    cluster->links++;
    return visit;
}

/* From the loop. */
static void ask_next(struct moon_redis_cluster *cluster)
{
    struct candidate list[CANDIDATES_MAX];
    if (cluster->at >= list_candidates(cluster, list)) {
        finish(cluster, false);
        return;
    }
    cluster->ask = open_visit(cluster, &list[cluster->at]);
    moon_alarm_set(&cluster->redis->alarms, &cluster->alarm,
                   moon_redis_ask_ms(cluster->redis), on_late);
}

void moon_redis_cluster_refresh(struct moon_redis_cluster *cluster)
{
    if (cluster->asking || cluster->destroyed)
        return;
    uint64_t next = cluster->asked_ms + REFRESH_MS;
    uint64_t now = uv_now(cluster->redis->loop);
    uint64_t after = cluster->asked_ms == 0 || next <= now ? 0 : next - now;
    if (!moon_alarm_is_set(&cluster->alarm) ||
        cluster->alarm.due_ms > now + after)
        ask_in(cluster, after);
}

/* ---- using it ---- */

static enum moon_err route_to(struct moon_redis_node *node,
                              struct moon_redis_node **out)
{
    *out = node;
    if (node->state == MOON_REDIS_UP)
        return MOON_OK;
    if (node->state == MOON_REDIS_CONNECTING)
        return MOON_EAGAIN;
    return moon_redis_refuse(MOON_ECLOSED, "redis is down: %.60s:%u: %s",
                             node->hostz, node->port, node->why);
}

/* A random one of those that serve; else one for which it is worth to wait. */
static enum moon_err route_any(struct moon_redis_cluster *cluster,
                               struct moon_redis_node **out)
{
    struct moon_redis_node *best = NULL;
    uint32_t seen = 0;
    for (struct moon_redis_node *node = cluster->redis->nodes; node != NULL;
         node = node->next) {
        if (!node->in_map)
            continue;
        if (node->state == MOON_REDIS_UP) {
            if (moon_redis_jitter(++seen) == 1)
                best = node;
        } else if (seen == 0 &&
                   (best == NULL || best->state == MOON_REDIS_DOWN)) {
            best = node;
        }
    }
    if (best == NULL)
        return moon_redis_refuse(MOON_ECLOSED,
                                 "redis is down: the cluster has no master");
    return route_to(best, out);
}

enum moon_err moon_redis_cluster_route(struct moon_redis_cluster *cluster,
                                       int slot, struct moon_redis_node **node)
{
    *node = NULL;
    if (!cluster->known)
        return cluster->down
                   ? moon_redis_refuse(MOON_ECLOSED, "redis is down: %s",
                                       cluster->why)
                   : MOON_EAGAIN;
    if (slot < 0)
        return route_any(cluster, node);
    if (cluster->slots[slot] != NULL)
        return route_to(cluster->slots[slot], node);
    moon_redis_cluster_refresh(cluster);
    return moon_redis_refuse(MOON_ECLOSED,
                             "redis is down: no master has slot %d", slot);
}

struct moon_redis_node *moon_redis_cluster_follow(
    struct moon_redis_cluster *cluster, const struct moon_redis_node *by,
    struct moon_str text)
{
    uint64_t slot, port;
    char hostz[MOON_REDIS_HOST];
    struct moon_str kind = moon_str_cut(text, ' ', &text);
    struct moon_str number = moon_str_cut(text, ' ', &text);
    size_t colon = text.len; /* the last one: IPv6 has more */
    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon == 0 || !moon_str_to_u64(number, &slot) ||
        slot >= MOON_REDIS_SLOTS ||
        !moon_str_to_u64(moon_str(text.ptr + colon, text.len - colon), &port) ||
        port == 0 || port > 65535 ||
        !copy_host(hostz, moon_str(text.ptr, colon - 1), by->hostz))
        return NULL;
    struct moon_redis_node *node = node_at(cluster, hostz, (uint16_t)port);
    if (node == NULL)
        return NULL;
    node->used_ms = uv_now(cluster->redis->loop);
    if (moon_str_eq(kind, MOON_STR("MOVED"))) {
        cluster->slots[slot] = node;
        node->in_map = true;
        moon_redis_cluster_refresh(cluster);
    }
    return node;
}

bool moon_redis_cluster_is_up(const struct moon_redis_cluster *cluster,
                              const char **whyz)
{
    *whyz = cluster->known ? "" : cluster->down ? cluster->why : "connecting";
    for (const struct moon_redis_node *node = cluster->redis->nodes;
         node != NULL && cluster->known; node = node->next) {
        if (node->in_map && node->state != MOON_REDIS_UP)
            *whyz = node->why;
    }
    return (*whyz)[0] == '\0';
}

/* ---- life ---- */

struct moon_redis_cluster *moon_redis_cluster_create(struct moon_redis *redis)
{
    struct moon_redis_cluster *cluster = calloc(1, sizeof(*cluster));
    if (cluster == NULL)
        return NULL;
    cluster->redis = redis;
    moon_redis_cluster_refresh(cluster);
    return cluster;
}

void moon_redis_cluster_destroy(struct moon_redis_cluster *cluster)
{
    if (cluster == NULL)
        return;
    moon_alarm_clear(&cluster->alarm);
    cluster->destroyed = true;
    leave(cluster);
    free_cluster(cluster);
}
