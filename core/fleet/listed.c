#include "fleet/listed.h"

#include "state/redis.h"
#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MS = 3000 };

struct query {
    uv_loop_t loop;
    uv_timer_t timer; /* keeps the loop going, and ends the wait */
    bool done, late;
    enum moon_err err;
    struct redisReply *reply; /* owned */
    struct moon_buf *error;
};

static void on_late(uv_timer_t *timer)
{
    struct query *query = timer->data;
    query->late = true;
}

static void on_reply(void *ctx, enum moon_err err, struct redisReply **reply,
                     const char *whyz)
{
    struct query *query = ctx;
    query->done = true;
    query->err = err;
    if (err == MOON_OK) {
        query->reply = *reply;
        *reply = NULL;
    } else {
        moon_buf_addz(query->error, whyz);
    }
}

/* Sends it and waits for the answer. */
static enum moon_err ask(struct query *query, struct moon_redis *redis,
                         const struct moon_redis_command *commands,
                         uint32_t count)
{
    const struct moon_redis_how how = {.timeout_ms = WAIT_MS,
                                       .flags = MOON_REDIS_READ_ONLY,
                                       .done = on_reply,
                                       .ctx = query};
    query->done = query->late = false;
    query->timer.data = query;
    enum moon_err err = moon_redis_send(redis, commands, count, &how, NULL);
    if (err != MOON_OK) {
        moon_buf_addz(query->error, moon_redis_whyz());
        return err;
    }
    (void)uv_timer_start(&query->timer, on_late, 2 * (uint64_t)WAIT_MS, 0);
    while (!query->done && !query->late)
        (void)uv_run(&query->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&query->timer);
    if (query->done && query->err == MOON_OK &&
        moon_redis_is_error(query->reply)) {
        moon_buf_add_str(query->error, moon_redis_text(query->reply));
        query->err = MOON_EPROTO;
    }
    return query->done ? query->err : MOON_ETIMEOUT;
}

static void drop_reply(struct query *query)
{
    moon_redis_reply_free(query->reply);
    query->reply = NULL;
}

static int by_names(const void *a, const void *b)
{
    const struct moon_target *one = a, *two = b;
    return strcmp(one->namez, two->namez);
}

/* One node: its name is known, its address is asked for. */
static enum moon_err add_node(struct query *query, struct moon_redis *redis,
                              struct moon_str name, struct moon_targets *to)
{
    char key[MOON_TARGET_NAME + 16];
    int len = snprintf(key, sizeof(key), "moon:node:%.*s", MOON_STR_ARG(name));
    if (len >= (int)sizeof(key) || to->count == MOON_TARGETS_MAX)
        return MOON_OK; /* no node of ours has such a name */
    const struct moon_str argv[] = {
        MOON_STR("HGET"), moon_str(key, (size_t)len), MOON_STR("admin")};
    const struct moon_redis_command command = {argv, MOON_COUNT(argv), 1};
    enum moon_err err = ask(query, redis, &command, 1);
    if (err != MOON_OK)
        return err;
    struct moon_target *target = &to->items[to->count];
    struct moon_str address = moon_redis_text(query->reply);
    if (address.len > 0) { /* else it has gone meanwhile */
        err = moon_target_at(address, target, query->error);
        (void)snprintf(target->namez, sizeof(target->namez), "%.*s",
                       MOON_STR_ARG(name));
        to->count += err == MOON_OK;
    }
    drop_reply(query);
    return err;
}

static enum moon_err read_list(struct query *query, struct moon_redis *redis,
                               struct moon_targets *to)
{
    static const struct moon_str argv[] = {
        {"ZRANGE", 6}, {"moon:nodes", 10}, {"0", 1}, {"-1", 2}};
    const struct moon_redis_command command = {argv, MOON_COUNT(argv), 1};
    enum moon_err err = ask(query, redis, &command, 1);
    struct redisReply *names = query->reply;
    query->reply = NULL;
    for (size_t i = 0; err == MOON_OK && i < names->elements; i++)
        err = add_node(query, redis, moon_redis_text(names->element[i]), to);
    if (names != NULL)
        moon_redis_reply_free(names);
    return err;
}

enum moon_err moon_targets_listed(const char *urlz, struct moon_targets *to,
                                  struct moon_buf *error)
{
    struct query query = {.error = error};
    struct moon_redis *redis;
    char why[512] = "";
    to->count = 0;
    if (uv_loop_init(&query.loop) != 0) {
        moon_buf_addz(error, "no event loop");
        return MOON_ENOMEM;
    }
    (void)uv_timer_init(&query.loop, &query.timer);
    enum moon_err err =
        moon_redis_get(&query.loop, urlz, NULL, &redis, why, sizeof(why));
    if (err != MOON_OK)
        moon_buf_addz(error, why);
    if (err == MOON_OK) {
        err = read_list(&query, redis, to);
        moon_redis_unref(redis);
        moon_redis_close_all();
    }
    uv_close((uv_handle_t *)&query.timer, NULL);
    (void)uv_run(&query.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&query.loop);
    if (err == MOON_OK && to->count == 0) {
        moon_buf_addz(error, "no node has put itself on the list there");
        return MOON_ENOT_FOUND;
    }
    qsort(to->items, to->count, sizeof(to->items[0]), by_names);
    return err;
}
