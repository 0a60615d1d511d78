#include "state/redis_op.h"

#include "state/redis_proto.h"
#include "state/redis_slot.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the end of an op ---- */

static void leave_client(struct moon_redis_op *op)
{
    struct moon_redis *redis = op->redis;
    redis->pending -= op->commands;
    redis->pending_bytes -= op->charged;
    moon_chain_remove(&op->chain);
    moon_redis_hold_loop(redis);
}

static void free_op(struct moon_redis_op *op)
{
    struct moon_redis *redis = op->redis;
    moon_redis_batch_free(op->batch);
    if (op->script != NULL)
        moon_redis_script_unref(op->script);
    if (op->bytes != op->own_bytes)
        free(op->bytes);
    free(op);
    moon_redis_settle(redis);
}

static uint32_t count_errors(const struct moon_redis_op *op,
                             const struct redisReply *reply)
{
    uint32_t count = moon_redis_is_error(reply) ? 1 : 0;
    for (size_t i = 0; op->batch != NULL && moon_redis_item(reply, i) != NULL;
         i++)
        count += moon_redis_is_error(moon_redis_item(reply, i)) ? 1 : 0;
    return count;
}

void moon_redis_op_finish(struct moon_redis_op *op, enum moon_err err,
                          struct redisReply *reply, const char *whyz)
{
    if (err == MOON_ETIMEOUT)
        op->redis->timeouts++;
    op->redis->errors += count_errors(op, reply);
    leave_client(op); /* before, so that the next one finds room */
    op->done(op->ctx, err, &reply, whyz);
    if (reply != NULL)
        moon_redis_reply_free(reply);
    free_op(op);
}

void moon_redis_op_fail(struct moon_redis_op *op, enum moon_err err,
                        const char *whatz, const char *whyz)
{
    char why[MOON_REDIS_WHY * 2];
    const char *sentz = op->sent ? "" : " (not sent)";
    (void)snprintf(why, sizeof(why), "%s%s%s", whatz, whyz, sentz);
    moon_redis_op_finish(
        op, err, op->batch != NULL ? moon_redis_batch_partial(op->batch) : NULL,
        why);
}

/* ---- parking ---- */

static uint64_t due_ms(const struct moon_redis_op *op)
{
    return op->resume_ms != 0 && op->resume_ms < op->deadline_ms
               ? op->resume_ms
               : op->deadline_ms;
}

static void on_parking(struct moon_alarm *alarm);

static void set_parking(struct moon_redis *redis, uint64_t at_ms)
{
    uint64_t now = uv_now(redis->loop);
    if (!moon_alarm_is_set(&redis->parking) || at_ms < redis->parking.due_ms)
        moon_alarm_set(&redis->alarms, &redis->parking,
                       at_ms > now ? at_ms - now : 0, on_parking);
}

void moon_redis_op_park(struct moon_redis_op *op, uint64_t resume_ms)
{
    struct moon_redis *redis = op->redis;
    op->wire = NULL;
    op->resume_ms = resume_ms;
    moon_chain_add(&redis->parked, &op->chain);
    moon_redis_hold_loop(redis);
    set_parking(redis, due_ms(op));
}

/* Looks at each parked op once; those that stay keep their order. */
static void unpark(struct moon_redis *redis, bool all)
{
    struct moon_chain list;
    uint64_t now = uv_now(redis->loop);
    moon_chain_init(&list);
    moon_chain_move(&redis->parked, &list);
    for (struct moon_chain *at; (at = moon_chain_take(&list)) != NULL;) {
        struct moon_redis_op *op =
            MOON_CONTAINER(at, struct moon_redis_op, chain);
        if (redis->closed)
            moon_redis_op_fail(op, MOON_ECLOSED, "the client is closed", "");
        else if (op->deadline_ms <= now)
            moon_redis_op_fail(op, MOON_ETIMEOUT, "timeout", "");
        else if (op->resume_ms != 0 ? op->resume_ms <= now : all)
            moon_redis_op_dispatch(op);
        else
            moon_redis_op_park(op, op->resume_ms);
    }
    moon_redis_hold_loop(redis);
}

static void on_parking(struct moon_alarm *alarm)
{
    unpark(MOON_CONTAINER(alarm, struct moon_redis, parking), false);
}

void moon_redis_op_unpark_all(struct moon_redis *redis)
{
    unpark(redis, true);
}

void moon_redis_op_leave(struct moon_redis *redis,
                         const struct moon_redis_node *node)
{
    for (struct moon_chain *i = redis->parked.next; i != &redis->parked;
         i = i->next) {
        struct moon_redis_op *op =
            MOON_CONTAINER(i, struct moon_redis_op, chain);
        if (op->ask == node)
            op->ask = NULL;
    }
}

/* ---- sending ---- */

/* What goes out: all of it as it is, or the planned commands of a batch, with
 * ASKING before each (before MULTI only: it holds for the transaction). */
static void compose(struct moon_redis_op *op, struct moon_buf *to)
{
    const struct moon_str asking = MOON_STR("ASKING");
    struct moon_redis_batch *batch = op->batch;
    bool atomic = moon_redis_op_is_atomic(op);
    op->replies = 0;
    for (uint32_t i = 0; i < (batch != NULL ? batch->planned : 1); i++) {
        if (op->asking && (i == 0 || !atomic)) {
            moon_redis_add_command(to, &asking, 1);
            op->replies++;
        }
        if (batch == NULL)
            moon_buf_add(to, op->bytes, op->len);
        else
            moon_buf_add_str(to, moon_redis_batch_bytes(batch, op->bytes, i));
        op->replies++;
    }
}

/* Sends it on a wire; MOON_OK or why not, and then it is not under way. */
static enum moon_err fly(struct moon_redis_op *op, struct moon_wire *wire)
{
    struct moon_buf composed = {0};
    struct moon_str bytes = moon_str(op->bytes, op->len);
    uint64_t now = uv_now(op->redis->loop);
    uint64_t left = op->deadline_ms > now ? op->deadline_ms - now : 0;
    bool whole = op->batch == NULL || op->batch->planned == op->batch->count;
    if (op->asking || !whole) {
        compose(op, &composed);
        bytes = moon_buf_str(&composed);
    } else {
        op->replies = op->batch != NULL ? op->batch->count : 1;
    }
    op->got = 0;
    enum moon_err err =
        composed.failed
            ? MOON_ENOMEM
            : moon_wire_send(wire, bytes, op->replies, left,
                             moon_redis_op_on_reply, op, &op->ticket);
    moon_buf_deinit(&composed);
    if (err == MOON_OK) {
        op->wire = wire;
        op->sent = true;
    }
    return err;
}

/* MOON_OK: it is under way or parked. */
static enum moon_err go(struct moon_redis_op *op)
{
    struct moon_redis_node *node = op->ask;
    if (op->own != NULL) {
        enum moon_err err = fly(op, op->own);
        return err == MOON_OK
                   ? err
                   : moon_redis_refuse(err, "%s", moon_err_text(err));
    }
    enum moon_err err = MOON_EAGAIN;
    if (node != NULL && node->state == MOON_REDIS_UP)
        err = MOON_OK;
    else if (node == NULL || node->state == MOON_REDIS_DOWN)
        err = moon_redis_route(op->redis, op->slot, &node);
    if (err == MOON_EAGAIN) {
        moon_redis_op_park(op, 0);
        return MOON_OK;
    }
    if (err != MOON_OK)
        return err;
    op->node = node;
    op->asking = node == op->ask;
    op->ask = NULL;
    err = fly(op, moon_redis_link_wire(moon_redis_node_link(node)));
    if (err == MOON_EFULL)
        return moon_redis_refuse(err, "too many commands are under way");
    return err == MOON_OK ? err
                          : moon_redis_refuse(err, "%s", moon_err_text(err));
}

/* From the loop. */
void moon_redis_op_dispatch(struct moon_redis_op *op)
{
    enum moon_err err = go(op);
    if (err != MOON_OK)
        moon_redis_op_fail(op, err, "", moon_redis_whyz());
}

void moon_redis_cancel(struct moon_redis_op *op)
{
    if (op->wire != NULL)
        moon_wire_cancel(op->wire, op->ticket, op->replies);
    leave_client(op);
    free_op(op);
}

/* ---- the beginning ---- */

enum moon_err moon_redis_find_slot(struct moon_redis *redis,
                                   const struct moon_redis_command *commands,
                                   uint32_t count, int *slot)
{
    struct moon_str first = MOON_STR_NONE;
    *slot = -1;
    for (uint32_t i = 0; i < count && redis->cluster != NULL; i++) {
        if (commands[i].key == 0 || commands[i].key >= commands[i].argc)
            continue;
        struct moon_str key = commands[i].argv[commands[i].key];
        int here = moon_redis_slot(key);
        if (*slot == -1) {
            first = key;
            *slot = here;
        } else if (here != *slot) {
            return moon_redis_refuse(
                MOON_EINVAL,
                "in a cluster all keys of a pipeline or transaction must be in "
                "one slot; \"%.*s\" and \"%.*s\" are not: give them a common "
                "{tag}",
                first.len > 64 ? 64 : (int)first.len, first.ptr,
                key.len > 64 ? 64 : (int)key.len, key.ptr);
        }
    }
    return MOON_OK;
}

/* EVALSHA and EVAL differ in what stands before this argument. */
enum { TAIL = 2 };

static const struct moon_str multi = MOON_STR("MULTI");
static const struct moon_str exec = MOON_STR("EXEC");

static char *put_command(struct moon_redis_op *op, char *to, uint32_t which,
                         const struct moon_str *argv, uint32_t argc)
{
    to = moon_redis_put_array(to, argc);
    for (uint32_t i = 0; i < argc; i++) {
        if (i == TAIL)
            op->tail = (size_t)(to - op->own_bytes);
        to = moon_redis_put_arg(to, argv[i]);
    }
    if (op->batch != NULL)
        op->batch->ends[which] = (size_t)(to - op->own_bytes);
    return to;
}

/* Formats all commands, for which there is room. */
static void format(struct moon_redis_op *op,
                   const struct moon_redis_start *start)
{
    char *to = op->own_bytes;
    uint32_t which = 0;
    if (moon_redis_op_is_atomic(op))
        to = put_command(op, to, which++, &multi, 1);
    for (uint32_t i = 0; i < start->count; i++)
        to = put_command(op, to, which++, start->commands[i].argv,
                         start->commands[i].argc);
    if (moon_redis_op_is_atomic(op))
        to = put_command(op, to, which, &exec, 1);
    op->len = (size_t)(to - op->own_bytes);
}

static size_t size_of(const struct moon_redis_start *start, bool atomic)
{
    size_t size = atomic ? moon_redis_command_size(&multi, 1) +
                               moon_redis_command_size(&exec, 1)
                         : 0;
    for (uint32_t i = 0; i < start->count; i++)
        size += moon_redis_command_size(start->commands[i].argv,
                                        start->commands[i].argc);
    return size;
}

static struct moon_redis_op *make(const struct moon_redis_start *start,
                                  const struct moon_redis_how *how, size_t room)
{
    bool atomic = (how->flags & MOON_REDIS_ATOMIC) != 0;
    struct moon_redis_op *op = malloc(sizeof(*op) + room);
    if (op == NULL)
        return NULL;
    *op = (struct moon_redis_op){
        .redis = start->redis,
        .done = how->done,
        .ctx = how->ctx,
        .flags = how->flags,
        .slot = start->slot,
        .own = start->own,
        .commands = start->count,
        .charged = room,
        .argc = start->commands[0].argc,
        .bytes = op->own_bytes,
    };
    if (start->count > 1 || atomic) {
        op->batch = moon_redis_batch_create(start->count + (atomic ? 2 : 0));
        if (op->batch == NULL) {
            free(op);
            return NULL;
        }
    }
    format(op, start);
    if (!start->by_hash)
        op->tail = 0;
    if (start->script != NULL) {
        moon_redis_script_ref(start->script);
        op->script = start->script;
    }
    return op;
}

static enum moon_err check(const struct moon_redis_start *start, size_t room)
{
    const struct moon_redis *redis = start->redis;
    if (redis->closed)
        return moon_redis_refuse(MOON_ECLOSED, "the client is closed");
    for (uint32_t i = 0; i < start->count; i++) {
        if (start->commands[i].argc == 0)
            return moon_redis_refuse(MOON_EINVAL, "a command without a name");
    }
    if (start->count == 0)
        return moon_redis_refuse(MOON_EINVAL, "no command");
    if (room > redis->o.max_bytes)
        return moon_redis_refuse(MOON_ETOO_BIG,
                                 "commands of more than %llu bytes",
                                 (unsigned long long)redis->o.max_bytes);
    if (start->count > redis->o.max_pending - redis->pending ||
        room > redis->o.max_bytes - redis->pending_bytes)
        return moon_redis_refuse(MOON_EFULL, "too many commands are under way");
    return MOON_OK;
}

enum moon_err moon_redis_op_start(const struct moon_redis_start *start,
                                  const struct moon_redis_how *how,
                                  struct moon_redis_op **out)
{
    struct moon_redis *redis = start->redis;
    size_t room = size_of(start, (how->flags & MOON_REDIS_ATOMIC) != 0);
    enum moon_err err = check(start, room);
    if (err != MOON_OK)
        return err;
    struct moon_redis_op *op = make(start, how, room);
    if (op == NULL)
        return moon_redis_refuse(MOON_ENOMEM, "%s", moon_err_text(MOON_ENOMEM));
    uint64_t timeout_ms =
        how->timeout_ms != 0 ? how->timeout_ms : redis->o.timeout_ms;
    uv_update_time(redis->loop);
    op->deadline_ms = moon_redis_later(redis, timeout_ms);
    redis->pending += op->commands;
    redis->pending_bytes += op->charged;
    err = go(op);
    if (err != MOON_OK) {
        leave_client(op);
        free_op(op);
        return err;
    }
    redis->commands += start->count;
    if (out != NULL)
        *out = op;
    return MOON_OK;
}

enum moon_err moon_redis_send(struct moon_redis *redis,
                              const struct moon_redis_command *commands,
                              uint32_t count, const struct moon_redis_how *how,
                              struct moon_redis_op **out)
{
    struct moon_redis_start start = {
        .redis = redis, .commands = commands, .count = count};
    enum moon_err err =
        moon_redis_find_slot(redis, commands, count, &start.slot);
    return err == MOON_OK ? moon_redis_op_start(&start, how, out) : err;
}
