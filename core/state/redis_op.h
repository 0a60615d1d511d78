/* One op: commands under way, from the call that started it to its callback.
 *
 * Its bytes stay until then, for it may have to be sent again. It is on its way
 * on a wire, which calls moon_redis_op_on_reply, or parked in its client. Owned
 * by whoever holds it of these two; freed by its callback, or by
 * moon_redis_cancel. Private to state/redis_op*. */
#ifndef MOON_STATE_REDIS_OP_H
#define MOON_STATE_REDIS_OP_H

#include "state/redis_batch.h"
#include "state/redis_internal.h"
#include "state/redis_node.h"

struct moon_redis_op {
    struct moon_chain chain; /* while it is parked */
    struct moon_redis *redis;
    moon_redis_done *done;
    void *ctx;
    uint64_t deadline_ms;
    uint64_t resume_ms; /* parked until then; 0: until there is a link */
    uint32_t flags;
    int slot;
    uint32_t commands; /* as its caller counts */
    size_t charged;    /* of the client's bytes */
    bool sent;         /* may have been executed */
    bool asking;       /* as it is under way now */
    bool rerouted;
    uint8_t redirects, resends, laters;

    struct moon_redis_node *node; /* that it was sent to last */
    struct moon_redis_node *ask;  /* that it is to go to, this once; or NULL */
    struct moon_wire *own;        /* its caller's own link, or NULL */
    struct moon_wire *wire;       /* it is under way; or NULL */
    uint64_t ticket;
    uint32_t replies, got; /* asked for, and answered */

    struct moon_redis_batch *batch; /* of several commands, else NULL */
    struct moon_redis_script *script;
    uint32_t argc; /* of the first command */
    size_t tail;   /* EVALSHA: where what follows the hash begins; else 0 */
    size_t len;
    char *bytes; /* own_bytes, or a block of its own */
    char own_bytes[];
};

static inline bool moon_redis_op_is_atomic(const struct moon_redis_op *op)
{
    return (op->flags & MOON_REDIS_ATOMIC) != 0;
}

/* From the loop: sends it, parks it, or ends it. */
void moon_redis_op_dispatch(struct moon_redis_op *op);
/* Until the deadline or, if that is not 0, until `resume_ms`. */
void moon_redis_op_park(struct moon_redis_op *op, uint64_t resume_ms);
/* From the loop: its callback, and it is freed. Takes the reply. */
void moon_redis_op_finish(struct moon_redis_op *op, enum moon_err err,
                          struct redisReply *reply, const char *whyz);
/* The same for a failure, with what came in part; the text is both. */
void moon_redis_op_fail(struct moon_redis_op *op, enum moon_err err,
                        const char *whatz, const char *whyz);
/* A moon_wire_done; `ctx` is the op. */
void moon_redis_op_on_reply(void *ctx, struct moon_wire_result *result);

#endif
