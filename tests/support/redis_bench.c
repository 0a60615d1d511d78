/* How many operations a second one link carries, in batches: so many are asked
 * for at once, and the next batch when all are answered. */
#include "redis_driver.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

struct bench {
    struct moon_redis *redis;
    uint64_t left, ops, began_ns;
    uint32_t batch, under_way;
    struct moon_str argv[3];
    uint64_t failed;
    char *value;
};

static void start_batch(struct bench *bench);

static void finish(struct bench *bench)
{
    struct moon_buf line = {0};
    double seconds = (double)(moon_clock_ns() - bench->began_ns) / 1e9;
    moon_buf_printf(&line,
                    "{\"event\":\"bench\",\"batch\":%u,\"ops\":%llu,"
                    "\"failed\":%llu,\"per_second\":%.0f}\n",
                    bench->batch, (unsigned long long)bench->ops,
                    (unsigned long long)bench->failed,
                    (double)bench->ops / seconds);
    driver_say(&line);
    moon_redis_unref(bench->redis);
    free(bench->value);
    free(bench);
}

static void on_done(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct bench *bench = ctx;
    (void)reply;
    (void)whyz;
    bench->failed += err != MOON_OK;
    if (--bench->under_way > 0)
        return;
    if (bench->left > 0)
        start_batch(bench);
    else
        finish(bench);
}

static void start_batch(struct bench *bench)
{
    const struct moon_redis_command command = {bench->argv, 3, 1};
    const struct moon_redis_how how = {
        .timeout_ms = 10000, .done = on_done, .ctx = bench};
    for (uint32_t i = 0; i < bench->batch && bench->left > 0; i++) {
        if (moon_redis_send(bench->redis, &command, 1, &how, NULL) != MOON_OK)
            abort();
        bench->left--;
        bench->under_way++;
    }
}

void bench_run(struct moon_redis *redis, uint64_t ops, uint32_t batch,
               uint32_t value_bytes)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    if (bench == NULL || (bench->value = malloc(value_bytes + 1)) == NULL)
        abort();
    memset(bench->value, 'x', value_bytes);
    bench->redis = redis;
    bench->ops = bench->left = ops;
    bench->batch = batch;
    bench->argv[0] = MOON_STR("SET");
    bench->argv[1] = MOON_STR("moonshine:bench");
    bench->argv[2] = moon_str(bench->value, value_bytes);
    moon_redis_ref(redis);
    bench->began_ns = moon_clock_ns();
    start_batch(bench);
}
