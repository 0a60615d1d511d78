#include "state/redis_batch.h"

#include "state/redis_proto.h"
#include "state/redis_reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

struct moon_redis_batch *moon_redis_batch_create(uint32_t count)
{
    struct moon_redis_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL)
        return NULL;
    batch->plan = calloc(count, sizeof(*batch->plan));
    batch->ends = calloc(count, sizeof(*batch->ends));
    batch->replies = calloc(count, sizeof(struct redisReply *));
    if (batch->plan == NULL || batch->ends == NULL || batch->replies == NULL) {
        moon_redis_batch_free(batch);
        return NULL;
    }
    batch->count = count;
    moon_redis_batch_plan(batch, NULL);
    return batch;
}

static void drop(struct redisReply **reply)
{
    if (*reply != NULL)
        moon_redis_reply_free(*reply);
    *reply = NULL;
}

void moon_redis_batch_free(struct moon_redis_batch *batch)
{
    if (batch == NULL)
        return;
    for (uint32_t i = 0; i < batch->count; i++)
        drop(&batch->replies[i]);
    free(batch->plan);
    free(batch->ends);
    free(batch->replies);
    free(batch);
}

struct moon_str moon_redis_batch_bytes(const struct moon_redis_batch *batch,
                                       const char *bytes, uint32_t planned)
{
    uint32_t i = batch->plan[planned];
    size_t begin = i > 0 ? batch->ends[i - 1] : 0;
    return moon_str(bytes + begin, batch->ends[i] - begin);
}

void moon_redis_batch_set(struct moon_redis_batch *batch, uint32_t planned,
                          struct redisReply *reply)
{
    struct redisReply **to = &batch->replies[batch->plan[planned]];
    drop(to);
    *to = reply;
}

static struct moon_str first_word(const struct redisReply *reply)
{
    struct moon_str rest;
    return moon_str_cut(moon_redis_text(reply), ' ', &rest);
}

static bool is_like(const struct redisReply *reply,
                    const struct redisReply *error)
{
    return moon_redis_is_error(reply) &&
           moon_str_eq(first_word(reply), first_word(error));
}

bool moon_redis_batch_is_all(const struct moon_redis_batch *batch,
                             const struct redisReply *error)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        if (!is_like(batch->replies[i], error))
            return false;
    }
    return true;
}

void moon_redis_batch_plan(struct moon_redis_batch *batch,
                           const struct redisReply *error)
{
    batch->planned = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (error == NULL || is_like(batch->replies[i], error))
            batch->plan[batch->planned++] = i;
    }
    /* Only now, for `error` is one of them. */
    for (uint32_t i = 0; i < batch->planned; i++)
        drop(&batch->replies[batch->plan[i]]);
}

static struct redisReply *take(struct moon_redis_batch *batch, uint32_t count)
{
    struct redisReply *array = moon_redis_reply_join(batch->replies, count);
    for (uint32_t i = 0; array != NULL && i < count; i++)
        batch->replies[i] = NULL;
    return array;
}

struct redisReply *moon_redis_batch_all(struct moon_redis_batch *batch)
{
    return take(batch, batch->count);
}

struct redisReply *moon_redis_batch_partial(struct moon_redis_batch *batch)
{
    uint32_t count = 0;
    while (count < batch->count && batch->replies[count] != NULL)
        count++;
    return count > 0 ? take(batch, count) : NULL;
}

bool moon_redis_batch_was_refused(const struct moon_redis_batch *batch)
{
    return moon_redis_is_error(batch->replies[batch->count - 1]);
}

struct redisReply *moon_redis_batch_atomic(struct moon_redis_batch *batch)
{
    uint32_t which = batch->count - 1;
    for (uint32_t i = 0;
         i < batch->count - 1 && moon_redis_batch_was_refused(batch); i++) {
        if (moon_redis_is_error(batch->replies[i])) {
            which = i;
            break;
        }
    }
    struct redisReply *reply = batch->replies[which];
    batch->replies[which] = NULL;
    return reply;
}
