#include "node/node_list.h"

#include "base/log.h"
#include "state/redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODES "moon:nodes"
#define EXPIRY_MS "10000"

enum { NUMBER = 24, NAME = 256, NODES_MAX = 1000000 };

struct moon_node_list {
    struct moon_node_list_options o;
    char *urlz; /* of `redis` */
    struct moon_redis *redis;
    struct moon_redis_script *script;
    struct moon_redis_op *counting, *telling; /* under way, or NULL */
    char hostz[NAME];
    char adminz[1024];
    char keyz[NAME]; /* moon:node:NAME */
};

/* KEYS[1] moon:nodes, ARGV[1] the node: how many there are. */
static const char beat_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf',\n"
    "    string.format('(%.0f', now - " EXPIRY_MS "))\n"
    "redis.call('PEXPIRE', KEYS[1], " EXPIRY_MS ")\n"
    "return redis.call('ZCARD', KEYS[1])\n";

struct moon_node_list *moon_node_list_create(
    const struct moon_node_list_options *options)
{
    struct moon_node_list *list = calloc(1, sizeof(*list));
    if (list == NULL)
        return NULL;
    list->o = *options;
    if (gethostname(list->hostz, sizeof(list->hostz) - 1) != 0)
        list->hostz[0] = '\0';
    if (options->adminz[0] != '\0')
        (void)snprintf(list->adminz, sizeof(list->adminz), "%s",
                       options->adminz);
    else
        (void)snprintf(list->adminz, sizeof(list->adminz),
                       "unix:%s/%s/admin.sock", options->run_dirz,
                       options->nodez);
    (void)snprintf(list->keyz, sizeof(list->keyz), "moon:node:%s",
                   options->nodez);
    return list;
}

static void disconnect(struct moon_node_list *list)
{
    if (list->counting != NULL)
        moon_redis_cancel(list->counting);
    if (list->telling != NULL)
        moon_redis_cancel(list->telling);
    if (list->script != NULL)
        moon_redis_script_unref(list->script);
    if (list->redis != NULL)
        moon_redis_unref(list->redis);
    free(list->urlz);
    list->counting = list->telling = NULL;
    list->script = NULL;
    list->redis = NULL;
    list->urlz = NULL;
}

void moon_node_list_destroy(struct moon_node_list *list)
{
    if (list == NULL)
        return;
    disconnect(list);
    free(list);
}

static bool connect_to(struct moon_node_list *list,
                       const struct moon_config *config)
{
    char error[256], name[NAME];
    if (list->urlz != NULL && strcmp(list->urlz, config->cluster_urlz) == 0)
        return true;
    disconnect(list);
    (void)snprintf(name, sizeof(name), "moonshine %s", list->o.nodez);
    const struct moon_redis_options options = {
        .connect_timeout_ms = config->redis_connect_timeout_ms,
        .timeout_ms = config->redis_timeout_ms,
        .namez = name,
    };
    if (moon_redis_get(list->o.loop, config->cluster_urlz, &options,
                       &list->redis, error, sizeof(error)) != MOON_OK) {
        moon_log(MOON_LOG_ERROR, "cluster.url: %s", error);
        list->redis = NULL;
        return false;
    }
    list->script = moon_redis_script_get(list->redis, moon_strz(beat_script));
    list->urlz = strdup(config->cluster_urlz);
    if (list->script != NULL && list->urlz != NULL)
        return true;
    disconnect(list);
    return false;
}

/* ---- who speaks ---- */

static const struct moon_shm_side *side(const struct moon_node_list *list)
{
    return &list->o.shm->sides[list->o.side];
}

/* The first of its master's workers that serve and do not hang. */
static bool speaks(const struct moon_node_list *list)
{
    if (moon_shm_get32(&side(list)->node_state) == MOON_NODE_DRAINING)
        return false;
    for (uint32_t i = moon_shm_get32(&side(list)->first); i < list->o.slot;
         i++) {
        const struct moon_worker_slot *slot = &list->o.shm->slots[i];
        if (moon_shm_get32(&slot->state) == MOON_WORKER_SERVING &&
            moon_shm_get32(&slot->stale) == 0)
            return false;
    }
    return true;
}

/* ---- what is said ---- */

static void on_count(void *ctx, enum moon_err err, struct redisReply **reply,
                     const char *whyz)
{
    struct moon_node_list *list = ctx;
    list->counting = NULL;
    if (err == MOON_OK && (*reply)->type == REDIS_REPLY_INTEGER &&
        (*reply)->integer > 0 && (*reply)->integer <= NODES_MAX)
        moon_shm_set32(&list->o.shm->cluster.nodes,
                       (uint32_t)(*reply)->integer);
    else
        moon_log(MOON_LOG_DEBUG, "node list: %s",
                 whyz != NULL && err != MOON_OK ? whyz : "strange answer");
}

static void on_told(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct moon_node_list *list = ctx;
    (void)reply;
    list->telling = NULL;
    if (err != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "node list: %s", whyz);
}

static struct moon_str print(char to[NUMBER], uint64_t value)
{
    int len = snprintf(to, NUMBER, "%llu", (unsigned long long)value);
    return moon_str(to, (size_t)len);
}

static void count(struct moon_node_list *list)
{
    const struct moon_redis_how how = {.done = on_count, .ctx = list};
    const struct moon_str argv[] = {MOON_STR(NODES), moon_strz(list->o.nodez)};
    if (moon_redis_eval(list->script, argv, 1, 1, &how, &list->counting) !=
        MOON_OK)
        list->counting = NULL;
}

static void describe(struct moon_node_list *list)
{
    char numbers[3][NUMBER];
    const struct moon_redis_how how = {.done = on_told, .ctx = list};
    struct moon_str key = moon_strz(list->keyz);
    const struct moon_str set[] = {
        MOON_STR("HSET"),
        key,
        MOON_STR("admin"),
        moon_strz(list->adminz),
        MOON_STR("host"),
        moon_strz(list->hostz),
        MOON_STR("pid"),
        print(numbers[0], (uint64_t)list->o.master_pid),
        MOON_STR("version"),
        MOON_STR(MOON_VERSION),
        MOON_STR("generation"),
        print(numbers[1], moon_shm_get(&side(list)->generation)),
        MOON_STR("workers"),
        print(numbers[2], moon_shm_get32(&side(list)->workers)),
    };
    const struct moon_str expire[] = {MOON_STR("PEXPIRE"), key,
                                      MOON_STR(EXPIRY_MS)};
    const struct moon_redis_command commands[] = {
        {set, MOON_COUNT(set), 1}, {expire, MOON_COUNT(expire), 1}};
    if (moon_redis_send(list->redis, commands, 2, &how, &list->telling) !=
        MOON_OK)
        list->telling = NULL;
}

void moon_node_list_tend(struct moon_node_list *list,
                         const struct moon_config *config)
{
    if (config->cluster_urlz[0] == '\0' || !speaks(list)) {
        disconnect(list);
        return;
    }
    if (!connect_to(list, config))
        return;
    if (list->counting == NULL)
        count(list);
    if (list->telling == NULL)
        describe(list);
}

/* ---- the end ---- */

static void on_left(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    (void)ctx;
    (void)err;
    (void)reply;
    (void)whyz;
}

/* Workers of another master, of a next binary? */
static bool another_serves(const struct moon_node_list *list)
{
    const struct moon_shm *shm = list->o.shm;
    for (uint32_t i = 0; i < MOON_SHM_SIDES; i++) {
        uint32_t first = moon_shm_get32(&shm->sides[i].first);
        uint32_t workers = moon_shm_get32(&shm->sides[i].workers);
        for (uint32_t at = first;
             i != list->o.side && at < shm->slot_count && at - first < workers;
             at++) {
            if (moon_shm_get32(&shm->slots[at].state) == MOON_WORKER_SERVING)
                return true;
        }
    }
    return false;
}

void moon_node_list_leave(struct moon_node_list *list)
{
    if (list->redis == NULL || another_serves(list))
        return;
    const struct moon_redis_how how = {.done = on_left};
    const struct moon_str drop[] = {MOON_STR("ZREM"), MOON_STR(NODES),
                                    moon_strz(list->o.nodez)};
    const struct moon_str del[] = {MOON_STR("DEL"), moon_strz(list->keyz)};
    const struct moon_redis_command first = {drop, MOON_COUNT(drop), 1},
                                    second = {del, MOON_COUNT(del), 1};
    /* Else it is off the list when its time is over. */
    if (moon_redis_send(list->redis, &first, 1, &how, NULL) != MOON_OK ||
        moon_redis_send(list->redis, &second, 1, &how, NULL) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "node list: %s", moon_redis_whyz());
    disconnect(list);
}
