#include "state/redis_op.h"

#include "state/redis_cluster.h"
#include "state/redis_proto.h"

#include <stdlib.h>

/* How often an op is sent again: pointed elsewhere, and after a link broke. The
 * pause before the same node is asked again doubles up to LATER_MAX_MS. */
enum { REDIRECTS_MAX = 5, RESENDS_MAX = 3, LATER_MS = 5, LATER_MAX_MS = 100 };

/* What to do about an error reply. */
enum verdict {
    DELIVER,
    ROUTE,  /* again, to whoever has the slot now */
    ASK,    /* again, to op->ask */
    LATER,  /* again, after a pause */
    SOURCE, /* the script is not known there: send its text */
};

/* A server that cannot serve, by its own words: the client looks for a better
 * one. */
static enum verdict judge_node(struct moon_redis_op *op)
{
    bool leaving = moon_redis_node_suspect(op->node);
    /* A single URL leads to the same server again; sentinels may know of
     * another. Once is enough. */
    if (op->redis->sentinel == NULL || !leaving || op->rerouted)
        return DELIVER;
    op->rerouted = true;
    return ROUTE;
}

static bool cannot_serve(const struct redisReply *reply)
{
    return moon_redis_is_error_of(reply, "READONLY") ||
           moon_redis_is_error_of(reply, "LOADING") ||
           moon_redis_is_error_of(reply, "MASTERDOWN") ||
           moon_redis_is_error_of(reply, "NOREPLICAS");
}

/* On a link of one's own: it is delivered, but the client learns from it. */
static void notice(struct moon_redis *redis, const struct redisReply *reply)
{
    if (redis->closed)
        return;
    if (redis->cluster != NULL) {
        if (moon_redis_is_error_of(reply, "MOVED") ||
            moon_redis_is_error_of(reply, "CLUSTERDOWN") || cannot_serve(reply))
            moon_redis_cluster_refresh(redis->cluster);
    } else if (cannot_serve(reply)) {
        (void)moon_redis_node_suspect(redis->nodes);
    }
}

static enum verdict judge_cluster(struct moon_redis_op *op,
                                  const struct redisReply *reply)
{
    struct moon_redis_cluster *cluster = op->redis->cluster;
    bool moved = moon_redis_is_error_of(reply, "MOVED");
    if (moved || moon_redis_is_error_of(reply, "ASK")) {
        struct moon_redis_node *to = moon_redis_cluster_follow(
            cluster, op->node, moon_redis_text(reply));
        if (to == NULL || op->redirects >= REDIRECTS_MAX)
            return DELIVER;
        op->redirects++;
        op->ask = moved ? NULL : to;
        return moved ? ROUTE : ASK;
    }
    if (moon_redis_is_error_of(reply, "TRYAGAIN"))
        return LATER;
    if (moon_redis_is_error_of(reply, "CLUSTERDOWN") ||
        moon_redis_is_error_of(reply, "LOADING")) {
        moon_redis_cluster_refresh(cluster);
        return LATER;
    }
    if (cannot_serve(reply))
        moon_redis_cluster_refresh(cluster);
    return DELIVER;
}

static enum verdict judge(struct moon_redis_op *op,
                          const struct redisReply *reply)
{
    if (!moon_redis_is_error(reply))
        return DELIVER;
    if (op->own != NULL) {
        notice(op->redis, reply);
        return DELIVER;
    }
    if (op->script != NULL && moon_redis_is_error_of(reply, "NOSCRIPT"))
        return op->tail > 0 ? SOURCE : DELIVER;
    if (op->redis->cluster != NULL)
        return judge_cluster(op, reply);
    return cannot_serve(reply) ? judge_node(op) : DELIVER;
}

/* EVALSHA becomes EVAL: the source instead of the hash, the same behind it. */
static bool use_source(struct moon_redis_op *op)
{
    const struct moon_str head[] = {MOON_STR("EVAL"),
                                    moon_redis_script_source(op->script)};
    size_t rest = op->len - op->tail;
    char *bytes = malloc(moon_redis_command_size(head, 2) + rest);
    if (bytes == NULL)
        return false;
    char *to = moon_redis_put_array(bytes, op->argc);
    to = moon_redis_put_arg(to, head[0]);
    to = moon_redis_put_arg(to, head[1]);
    memcpy(to, op->bytes + op->tail, rest);
    op->bytes = bytes; /* the first block is part of the op */
    op->len = (size_t)(to - bytes) + rest;
    op->tail = 0;
    return true;
}

/* How long to wait before the same node is asked again. */
static uint64_t pause_ms(struct moon_redis_op *op)
{
    uint64_t most = (uint64_t)LATER_MS << op->laters;
    if (most > LATER_MAX_MS)
        return moon_redis_jitter(LATER_MAX_MS);
    op->laters++;
    return moon_redis_jitter(most);
}

/* What its reply says was not done, is done now; false: the reply is to be
 * delivered, for there is no time for a pause, or no memory. With several
 * commands, those that got the same error as `error`. */
static bool again(struct moon_redis_op *op, enum verdict verdict,
                  const struct redisReply *error)
{
    bool atomic = moon_redis_op_is_atomic(op);
    uint64_t now = uv_now(op->redis->loop);
    uint64_t pause = verdict == LATER ? pause_ms(op) : 0;
    if ((verdict == LATER && now + pause >= op->deadline_ms) ||
        (verdict == SOURCE && !use_source(op)))
        return false;
    op->wire = NULL;
    if (op->batch == NULL || atomic)
        op->sent = false;
    if (op->batch != NULL)
        moon_redis_batch_plan(op->batch, atomic ? NULL : error);
    if (verdict == LATER)
        moon_redis_op_park(op, now + pause);
    else if (now >= op->deadline_ms)
        moon_redis_op_fail(op, MOON_ETIMEOUT, "timeout", "");
    else
        moon_redis_op_dispatch(op);
    return true;
}

static void on_single(struct moon_redis_op *op, struct moon_wire_result *result)
{
    struct redisReply *reply = result->reply;
    if (moon_redis_is_error(reply)) {
        enum verdict verdict = judge(op, reply);
        if (verdict != DELIVER && again(op, verdict, reply))
            return;
    }
    result->reply = NULL;
    moon_redis_op_finish(op, MOON_OK, reply, "");
}

/* May the commands that were not executed be sent again, although others of the
 * pipeline were? If they were sent elsewhere by key (MOVED, ASK): then the
 * others had other keys, and commands of one key keep their order. */
static bool keeps_order(const struct moon_redis_op *op, enum verdict verdict,
                        const struct redisReply *error)
{
    return moon_redis_op_is_atomic(op) || verdict == ASK ||
           (verdict == ROUTE && op->redis->cluster != NULL) ||
           moon_redis_batch_is_all(op->batch, error);
}

/* All of a batch has been answered. Those commands that were not executed, as
 * their replies say, go out again. */
static void on_batch(struct moon_redis_op *op)
{
    struct moon_redis_batch *batch = op->batch;
    bool atomic = moon_redis_op_is_atomic(op);
    enum verdict verdict = DELIVER;
    const struct redisReply *error = NULL;
    if (!atomic || moon_redis_batch_was_refused(batch)) {
        for (uint32_t i = 0; i < batch->count && verdict == DELIVER; i++) {
            error = batch->replies[i];
            verdict = judge(op, error);
        }
    }
    if (verdict != DELIVER && keeps_order(op, verdict, error) &&
        again(op, verdict, error))
        return;
    struct redisReply *reply =
        atomic ? moon_redis_batch_atomic(batch) : moon_redis_batch_all(batch);
    if (reply != NULL)
        moon_redis_op_finish(op, MOON_OK, reply, "");
    else
        moon_redis_op_finish(op, MOON_ENOMEM, NULL, moon_err_text(MOON_ENOMEM));
}

/* The link broke, or the time is over. */
static void on_failure(struct moon_redis_op *op,
                       const struct moon_wire_result *result)
{
    bool untouched = result->untouched;
    bool readable = result->err != MOON_EPROTO && result->err != MOON_ETOO_BIG;
    moon_wire_cancel(op->wire, op->ticket, op->replies);
    op->wire = NULL;
    if (untouched)
        op->sent = false;
    if (op->own == NULL && result->err != MOON_ETIMEOUT && readable &&
        !op->redis->closed && op->resends < RESENDS_MAX &&
        (untouched || (op->flags & MOON_REDIS_READ_ONLY) != 0)) {
        op->resends++;
        moon_redis_op_dispatch(op);
        return;
    }
    bool late = result->err == MOON_ETIMEOUT && !op->redis->closed;
    moon_redis_op_fail(op, result->err,
                       late ? "" : "the link to redis broke: ", result->whyz);
}

void moon_redis_op_on_reply(void *ctx, struct moon_wire_result *result)
{
    struct moon_redis_op *op = ctx;
    if (result->err != MOON_OK) {
        on_failure(op, result);
        return;
    }
    uint32_t at = op->got++;
    bool atomic = moon_redis_op_is_atomic(op);
    if (op->asking && (atomic ? at == 0 : at % 2 == 0))
        return; /* of ASKING */
    if (op->batch == NULL) {
        on_single(op, result);
        return;
    }
    if (op->asking)
        at = atomic ? at - 1 : at / 2;
    moon_redis_batch_set(op->batch, at, result->reply);
    result->reply = NULL;
    if (op->got == op->replies)
        on_batch(op);
}
