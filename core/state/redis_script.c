#include "state/redis_internal.h"

#include "base/digits.h"
#include "state/redis_node.h"
#include "state/redis_proto.h"

#include <stdlib.h>

enum { SHA_LEN = 40, ARGS_INLINE = 32 };

/* Owned by those who hold a reference: callers, ops, and each loading that is
 * under way. The hash is what a server answers to SCRIPT LOAD; before that the
 * source is sent. */
struct moon_redis_script {
    struct moon_redis *redis;
    struct moon_redis_script *next;
    uint32_t refs;
    char shaz[SHA_LEN + 1];
    size_t len;
    char source[];
};

struct moon_str moon_redis_script_source(const struct moon_redis_script *script)
{
    return moon_str(script->source, script->len);
}

void moon_redis_script_ref(struct moon_redis_script *script)
{
    script->refs++;
}

void moon_redis_script_unref(struct moon_redis_script *script)
{
    struct moon_redis *redis = script->redis;
    struct moon_redis_script **at = &redis->scripts;
    if (--script->refs > 0)
        return;
    while (*at != script)
        at = &(*at)->next;
    *at = script->next;
    free(script);
    redis->held--;
    moon_redis_settle(redis);
}

/* ---- loading ---- */

static void on_loaded(void *ctx, struct moon_wire_result *result)
{
    struct moon_redis_script *script = ctx;
    struct moon_str sha = moon_redis_text(result->reply);
    if (result->err == MOON_OK && sha.len == SHA_LEN &&
        !moon_redis_is_error(result->reply)) {
        memcpy(script->shaz, sha.ptr, SHA_LEN);
        script->shaz[SHA_LEN] = '\0';
    }
    moon_redis_script_unref(script);
}

/* Best effort: a server that does not have it is told with the call. */
static void load(struct moon_redis_script *script, struct moon_redis_link *link)
{
    const struct moon_str argv[] = {MOON_STR("SCRIPT"), MOON_STR("LOAD"),
                                    moon_redis_script_source(script)};
    if (moon_redis_link_send(link, argv, 3, script->redis->o.connect_timeout_ms,
                             on_loaded, script, NULL) == MOON_OK)
        moon_redis_script_ref(script);
}

void moon_redis_script_load_all(struct moon_redis *redis,
                                struct moon_redis_link *link)
{
    for (struct moon_redis_script *script = redis->scripts; script != NULL;
         script = script->next)
        load(script, link);
}

static void load_everywhere(struct moon_redis_script *script)
{
    for (struct moon_redis_node *node = script->redis->nodes; node != NULL;
         node = node->next) {
        if (!node->dropped && node->state == MOON_REDIS_UP)
            load(script, moon_redis_node_link(node));
    }
}

struct moon_redis_script *moon_redis_script_get(struct moon_redis *redis,
                                                struct moon_str source)
{
    struct moon_redis_script *script = redis->scripts;
    while (script != NULL &&
           !moon_str_eq(moon_redis_script_source(script), source))
        script = script->next;
    if (script != NULL) {
        script->refs++;
        return script;
    }
    script = calloc(1, sizeof(*script) + source.len);
    if (script == NULL)
        return NULL;
    script->redis = redis;
    script->refs = 1;
    script->len = source.len;
    if (source.len > 0)
        memcpy(script->source, source.ptr, source.len);
    script->next = redis->scripts;
    redis->scripts = script;
    redis->held++;
    load_everywhere(script);
    return script;
}

/* ---- running ---- */

static enum moon_err run(struct moon_redis_script *script,
                         const struct moon_redis_command *command,
                         const struct moon_redis_how *how,
                         struct moon_redis_op **out)
{
    struct moon_redis_start start = {
        .redis = script->redis,
        .commands = command,
        .count = 1,
        .script = script,
        .by_hash = script->shaz[0] != '\0',
    };
    enum moon_err err =
        moon_redis_find_slot(script->redis, command, 1, &start.slot);
    return err == MOON_OK ? moon_redis_op_start(&start, how, out) : err;
}

enum moon_err moon_redis_eval(struct moon_redis_script *script,
                              const struct moon_str *argv, uint32_t keys,
                              uint32_t args, const struct moon_redis_how *how,
                              struct moon_redis_op **out)
{
    struct moon_str few[ARGS_INLINE];
    uint32_t count = keys + args;
    uint32_t argc = count + 3;
    struct moon_str *all =
        argc <= ARGS_INLINE ? few : calloc(argc, sizeof(*all));
    char number[MOON_DIGITS_MAX];
    if (all == NULL)
        return moon_redis_refuse(MOON_ENOMEM, "%s", moon_err_text(MOON_ENOMEM));
    bool by_hash = script->shaz[0] != '\0';
    all[0] = by_hash ? MOON_STR("EVALSHA") : MOON_STR("EVAL");
    all[1] =
        by_hash ? moon_strz(script->shaz) : moon_redis_script_source(script);
    all[2] = moon_str(number, (size_t)(moon_put_u64(number, keys) - number));
    if (count > 0)
        memcpy(all + 3, argv, count * sizeof(*all));
    const struct moon_redis_command command = {all, argc, keys > 0 ? 3 : 0};
    struct moon_redis_how once = *how;
    once.flags &= ~(uint32_t)MOON_REDIS_ATOMIC; /* it is that by itself */
    enum moon_err err = run(script, &command, &once, out);
    if (all != few)
        free(all);
    return err;
}
