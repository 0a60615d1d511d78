#include "state/cluster_limits.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "state/cluster_limit_scripts.h"
#include "state/redis.h"
#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NUMBER = 24,
    ANSWERS = 5,
    KEY_TEXT_MAX = 64, /* of a limit's key */
    AWAY_MS = 1000,    /* without a failure: it is back */
    NEVER_US = -1,
};

enum script { BUCKET, WINDOW, LEASES, SCRIPTS };

struct moon_cluster_limits {
    struct moon_redis *redis;
    struct moon_redis_script *scripts[SCRIPTS];
    struct moon_cluster_news *news;
    struct moon_redis_op *life; /* a sign of it is asked for, or NULL */
    uint64_t timeout_ms;
};

/* ---- life ---- */

static bool get_scripts(struct moon_cluster_limits *limits)
{
    static const char *const sources[SCRIPTS] = {
        [BUCKET] = moon_cluster_bucket_script,
        [WINDOW] = moon_cluster_window_script,
        [LEASES] = moon_cluster_leases_script,
    };
    bool all = true;
    for (int i = 0; i < SCRIPTS; i++) {
        limits->scripts[i] =
            moon_redis_script_get(limits->redis, moon_strz(sources[i]));
        all = all && limits->scripts[i] != NULL;
    }
    return all;
}

enum moon_err moon_cluster_limits_create(
    uv_loop_t *loop, const struct moon_cluster_limits_options *options,
    struct moon_cluster_limits **out, char *error, size_t error_size)
{
    char name[160];
    (void)snprintf(name, sizeof(name), "moonshine %s limits", options->nodez);
    const struct moon_redis_options redis = {
        .connect_timeout_ms = options->connect_timeout_ms,
        .timeout_ms = options->timeout_ms,
        .namez = name,
    };
    struct moon_cluster_limits *limits = calloc(1, sizeof(*limits));
    enum moon_err err = MOON_ENOMEM;
    (void)snprintf(error, error_size, "%s", moon_err_text(err));
    if (limits != NULL)
        err = moon_redis_get(loop, options->urlz, &redis, &limits->redis, error,
                             error_size);
    if (err != MOON_OK) {
        free(limits);
        return err;
    }
    limits->news = options->news;
    limits->timeout_ms = options->timeout_ms;
    if (!get_scripts(limits)) {
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        moon_cluster_limits_destroy(limits);
        return MOON_ENOMEM;
    }
    *out = limits;
    return MOON_OK;
}

void moon_cluster_limits_destroy(struct moon_cluster_limits *limits)
{
    if (limits == NULL)
        return;
    if (limits->life != NULL)
        moon_redis_cancel(limits->life);
    for (int i = 0; i < SCRIPTS; i++) {
        if (limits->scripts[i] != NULL)
            moon_redis_script_unref(limits->scripts[i]);
    }
    moon_redis_unref(limits->redis);
    free(limits);
}

uint32_t moon_cluster_limits_nodes(const struct moon_cluster_limits *limits)
{
    uint32_t nodes =
        atomic_load_explicit(&limits->news->nodes, memory_order_relaxed);
    return nodes > 0 ? nodes : 1;
}

/* ---- is anybody there ---- */

static void note_failure(const struct moon_cluster_limits *limits,
                         struct moon_str why)
{
    struct moon_cluster_news *news = limits->news;
    struct moon_redis_status status;
    atomic_store(&news->failed_ms, moon_clock_ms());
    atomic_fetch_add_explicit(&news->failures, 1, memory_order_relaxed);
    if (atomic_exchange(&news->away, 1) != 0)
        return;
    moon_redis_get_status(limits->redis, &status);
    moon_log(MOON_LOG_WARN,
             "limits: no answer from %s (%.*s): limits of the cluster are held "
             "by their on_store_error, \"local\" ones as one of %u nodes",
             status.urlz, MOON_STR_ARG(why), moon_cluster_limits_nodes(limits));
}

static void note_answer(const struct moon_cluster_limits *limits)
{
    struct moon_cluster_news *news = limits->news;
    if (MOON_LIKELY(atomic_load_explicit(&news->away, memory_order_relaxed) ==
                    0) ||
        moon_clock_ms() - atomic_load(&news->failed_ms) < AWAY_MS ||
        atomic_exchange(&news->away, 0) == 0)
        return;
    moon_log(MOON_LOG_INFO,
             "limits: Redis answers again: limits of the cluster are held "
             "together");
}

static void on_life(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct moon_cluster_limits *limits = ctx;
    (void)whyz;
    limits->life = NULL;
    if (err == MOON_OK && !moon_redis_is_error(*reply))
        note_answer(limits);
}

void moon_cluster_limits_tend(struct moon_cluster_limits *limits)
{
    const struct moon_str argv[] = {MOON_STR("TIME")};
    const struct moon_redis_command command = {argv, 1, 0};
    const struct moon_redis_how how = {.done = on_life, .ctx = limits};
    const struct moon_cluster_news *news = limits->news;
    if (atomic_load_explicit(&news->away, memory_order_relaxed) == 0 ||
        limits->life != NULL)
        return;
    if (moon_redis_send(limits->redis, &command, 1, &how, &limits->life) !=
        MOON_OK)
        limits->life = NULL;
}

/* ---- questions ---- */

static bool is_concurrency(const struct moon_cluster_ask *ask)
{
    return ask->rate->kind == MOON_RATE_CONCURRENCY;
}

/* Apart by kind, so that a limit that became another finds nothing of before;
 * behind the braces, so in the same slot. */
static const char *suffix_of(enum moon_rate_kind kind)
{
    switch (kind) {
    case MOON_RATE_TOKEN_BUCKET:
    case MOON_RATE_LEAKY_BUCKET:
        break;
    case MOON_RATE_SLIDING_WINDOW:
        return ":w";
    case MOON_RATE_CONCURRENCY:
        return ":c";
    }
    return "";
}

static char *put(char *to, const void *from, size_t len)
{
    memcpy(to, from, len);
    return to + len;
}

void moon_cluster_ask_init(struct moon_cluster_ask *ask,
                           struct moon_cluster_limits *limits,
                           const struct moon_rate *rate, struct moon_str name,
                           struct moon_str key)
{
    unsigned char hash[crypto_generichash_BYTES];
    static const char prefix[] = "moon:l:{";
    const char *suffixz = suffix_of(rate->kind);
    *ask = (struct moon_cluster_ask){.limits = limits, .rate = rate};
    if (key.len > KEY_TEXT_MAX) {
        (void)crypto_generichash(hash, sizeof(hash),
                                 (const unsigned char *)key.ptr, key.len, NULL,
                                 0);
        key = moon_str((const char *)hash, sizeof(hash));
    }
    if (name.len > KEY_TEXT_MAX) /* such names do not load */
        name.len = KEY_TEXT_MAX;
    char *to = put(ask->key, prefix, sizeof(prefix) - 1);
    to = put(to, name.ptr, name.len);
    to = put(to, ":", 1);
    to = put(to, key.ptr, key.len);
    to = put(to, "}", 1);
    to = put(to, suffixz, strlen(suffixz));
    ask->key_len = (uint32_t)(to - ask->key);
}

static bool read_answer(const struct redisReply *reply,
                        struct moon_rate_result *result)
{
    int64_t n[ANSWERS];
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != ANSWERS)
        return false;
    for (int i = 0; i < ANSWERS; i++) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER)
            return false;
        n[i] = reply->element[i]->integer;
        if (n[i] < (i == 3 ? NEVER_US : 0) || n[i] > INT64_MAX / 1000)
            return false;
    }
    *result = (struct moon_rate_result){
        .allowed = n[0] == 1,
        .remaining = n[1] > UINT32_MAX ? UINT32_MAX : (uint32_t)n[1],
        .delay_ns = (uint64_t)n[2] * 1000,
        .retry_ns = n[3] < 0 ? MOON_RATE_PERIOD_MAX_NS : (uint64_t)n[3] * 1000,
        .reset_ns = (uint64_t)n[4] * 1000,
    };
    return true;
}

static void on_reply(void *ctx, enum moon_err err, struct redisReply **reply,
                     const char *whyz)
{
    struct moon_cluster_ask *ask = ctx;
    struct moon_str why = moon_strz(whyz != NULL ? whyz : "");
    ask->op = NULL;
    ask->failed = true;
    if (err == MOON_OK && moon_redis_is_error(*reply))
        why = moon_redis_text(*reply);
    else if (err == MOON_OK)
        ask->failed = !read_answer(*reply, &ask->result);
    if (ask->failed) {
        note_failure(ask->limits, why);
        if (is_concurrency(ask))
            moon_cluster_ask_undo(ask); /* it may have come to pass */
        ask->took = false; /* never more given back than was taken */
    } else {
        note_answer(ask->limits);
        if (ask->rate->kind != MOON_RATE_LEAKY_BUCKET || !ask->result.allowed)
            ask->result.delay_ns = 0;
        ask->took = ask->took && ask->result.allowed;
    }
    ask->told(ask);
}

static void on_told(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    (void)ctx;
    (void)err;
    (void)reply;
    (void)whyz;
}

static struct moon_str print(char to[NUMBER], int64_t value)
{
    int len = snprintf(to, NUMBER, "%" PRId64, value);
    return moon_str(to, (size_t)len);
}

static int64_t to_us(uint64_t ns)
{
    uint64_t us = ns / 1000 + (ns % 1000 != 0);
    return us == 0 ? 1 : (int64_t)us;
}

static enum moon_err run(struct moon_cluster_ask *ask, int64_t cost, bool look,
                         moon_redis_done *done, struct moon_redis_op **op)
{
    const struct moon_rate *rate = ask->rate;
    char numbers[3][NUMBER];
    enum script script = BUCKET;
    int64_t unit_us = to_us(rate->interval_ns);
    struct moon_str third = print(numbers[2], cost);
    if (rate->kind == MOON_RATE_SLIDING_WINDOW) {
        script = WINDOW;
        unit_us = to_us(rate->period_ns);
    } else if (is_concurrency(ask)) {
        script = LEASES;
        unit_us = to_us(rate->period_ns);
        third = moon_str(ask->lease, sizeof(ask->lease));
    }
    const struct moon_str argv[] = {
        moon_str(ask->key, ask->key_len),     print(numbers[0], unit_us),
        print(numbers[1], rate->quota),       third,
        look ? MOON_STR("1") : MOON_STR("0"),
    };
    const struct moon_redis_how how = {
        .timeout_ms = ask->limits->timeout_ms, .done = done, .ctx = ask};
    return moon_redis_eval(ask->limits->scripts[script], argv, 1,
                           MOON_COUNT(argv) - 1, &how, op);
}

static enum moon_err ask_for(struct moon_cluster_ask *ask, uint32_t cost,
                             bool look, moon_cluster_told *told)
{
    ask->told = told;
    ask->cost = cost;
    ask->failed = false;
    enum moon_err err = run(ask, cost, look, on_reply, &ask->op);
    if (err == MOON_OK) {
        ask->took = !look && cost > 0;
        return MOON_EAGAIN;
    }
    ask->op = NULL;
    ask->failed = true;
    note_failure(ask->limits, moon_strz(moon_redis_whyz()));
    return MOON_OK;
}

enum moon_err moon_cluster_ask_take(struct moon_cluster_ask *ask, uint32_t cost,
                                    moon_cluster_told *told)
{
    uint64_t bits[2];
    moon_random_fast(bits);
    for (int i = 0; i < MOON_CLUSTER_LEASE; i++)
        ask->lease[i] = "0123456789abcdef"[bits[i / 16] >> (i % 16 * 4) & 15];
    return ask_for(ask, cost, false, told);
}

enum moon_err moon_cluster_ask_look(struct moon_cluster_ask *ask,
                                    moon_cluster_told *told)
{
    return ask_for(ask, 1, true, told);
}

void moon_cluster_ask_cancel(struct moon_cluster_ask *ask)
{
    if (ask->op == NULL)
        return;
    moon_redis_cancel(ask->op);
    ask->op = NULL;
    if (is_concurrency(ask))
        moon_cluster_ask_undo(ask);
}

/* Nobody can do more if it fails: it ends by its time. */
static void tell(struct moon_cluster_ask *ask, const struct moon_str *argv,
                 uint32_t argc)
{
    const struct moon_redis_command command = {argv, argc, 1};
    const struct moon_redis_how how = {.done = on_told};
    if (moon_redis_send(ask->limits->redis, &command, 1, &how, NULL) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "limits: not given back: %s",
                 moon_redis_whyz());
}

void moon_cluster_ask_undo(struct moon_cluster_ask *ask)
{
    if (!ask->took)
        return;
    ask->took = false;
    if (is_concurrency(ask)) {
        const struct moon_str argv[] = {
            MOON_STR("ZREM"), moon_str(ask->key, ask->key_len),
            moon_str(ask->lease, sizeof(ask->lease))};
        tell(ask, argv, MOON_COUNT(argv));
    } else if (run(ask, -(int64_t)ask->cost, false, on_told, NULL) != MOON_OK) {
        moon_log(MOON_LOG_DEBUG, "limits: not given back: %s",
                 moon_redis_whyz());
    }
}

void moon_cluster_ask_reset(struct moon_cluster_ask *ask)
{
    const struct moon_str argv[] = {MOON_STR("DEL"),
                                    moon_str(ask->key, ask->key_len)};
    tell(ask, argv, MOON_COUNT(argv));
}
