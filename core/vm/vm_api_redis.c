#include "vm/vm_api_redis.h"

#include "state/redis_url.h"
#include "vm/vm_internal.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

/* An app that makes a client or a script of what a request says would go on for
 * ever. */
enum { CLIENTS_MAX = 64, SCRIPTS_MAX = 1000 };

struct moon_vm_script {
    uint32_t client;
    struct moon_redis_script *script; /* NULL until it is used */
    size_t len;
    char source[];
};

static enum moon_err say(char *error, enum moon_err err, const char *whyz)
{
    (void)snprintf(error, MOON_VM_REDIS_TEXT, "%s", whyz);
    return err;
}

/* ---- clients ---- */

static bool is_same(const struct moon_vm_client *client, const char *urlz,
                    const struct moon_redis_options *o)
{
    return strcmp(client->urlz, urlz) == 0 &&
           client->options.connect_timeout_ms == o->connect_timeout_ms &&
           client->options.timeout_ms == o->timeout_ms &&
           client->options.max_pending == o->max_pending;
}

static void free_client(struct moon_vm_client *client)
{
    if (client == NULL)
        return;
    free(client->urlz);
    free(client->shownz);
    free(client);
}

static struct moon_vm_client *make_client(
    const char *urlz, const char *shownz,
    const struct moon_redis_options *options)
{
    struct moon_vm_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return NULL;
    client->options = *options;
    client->urlz = strdup(urlz);
    client->shownz = strdup(shownz);
    if (client->urlz == NULL || client->shownz == NULL) {
        free_client(client);
        return NULL;
    }
    return client;
}

enum moon_err moon_vm_redis_open(struct moon_vm *vm, const char *urlz,
                                 const struct moon_redis_options *options,
                                 uint32_t *number, char *error)
{
    struct moon_vm_redis *all = &vm->redis;
    for (uint32_t i = 0; i < all->client_count; i++) {
        if (is_same(all->clients[i], urlz, options)) {
            *number = i + 1;
            return MOON_OK;
        }
    }
    struct moon_redis_url *url = NULL;
    enum moon_err err =
        moon_redis_url_parse(moon_strz(urlz), &url, error, MOON_VM_REDIS_TEXT);
    if (err != MOON_OK)
        return err;
    if (all->client_count == CLIENTS_MAX) {
        free(url);
        return say(error, MOON_EFULL,
                   "this code has 64 clients with other URLs or options: make "
                   "each once, when the app loads");
    }
    if (all->clients == NULL)
        all->clients = calloc(CLIENTS_MAX, sizeof(struct moon_vm_client *));
    struct moon_vm_client *client =
        all->clients == NULL ? NULL : make_client(urlz, url->shownz, options);
    free(url);
    if (client == NULL)
        return say(error, MOON_ENOMEM, moon_err_text(MOON_ENOMEM));
    all->clients[all->client_count++] = client;
    *number = all->client_count;
    return MOON_OK;
}

const char *moon_vm_redis_urlz(const struct moon_vm *vm, uint32_t client)
{
    return client - 1 < vm->redis.client_count
               ? vm->redis.clients[client - 1]->shownz
               : "redis";
}

struct moon_redis *moon_vm_redis_use(struct moon_vm *vm, uint32_t client,
                                     char *error)
{
    if (client - 1 >= vm->redis.client_count) {
        (void)say(error, MOON_EINVAL, "no such client");
        return NULL;
    }
    struct moon_vm_client *used = vm->redis.clients[client - 1];
    if (MOON_LIKELY(used->redis != NULL))
        return used->redis;
    struct moon_redis_options options = used->options;
    options.namez = vm->options.nodez;
    if (moon_redis_get(vm->loop, used->urlz, &options, &used->redis, error,
                       MOON_VM_REDIS_TEXT) != MOON_OK)
        used->redis = NULL;
    return used->redis;
}

/* ---- scripts ---- */

static enum moon_err find_script(struct moon_vm_redis *all, uint32_t client,
                                 struct moon_str source, uint32_t *number)
{
    for (uint32_t i = 0; i < all->script_count; i++) {
        const struct moon_vm_script *script = all->scripts[i];
        if (script->client == client &&
            moon_str_eq(moon_str(script->source, script->len), source)) {
            *number = i + 1;
            return MOON_OK;
        }
    }
    return MOON_ENOT_FOUND;
}

enum moon_err moon_vm_redis_prepare(struct moon_vm *vm, uint32_t client,
                                    struct moon_str source, uint32_t *number,
                                    char *error)
{
    struct moon_vm_redis *all = &vm->redis;
    if (find_script(all, client, source, number) == MOON_OK)
        return MOON_OK;
    if (all->script_count == SCRIPTS_MAX)
        return say(error, MOON_EFULL,
                   "this code has prepared 1000 other scripts: prepare each "
                   "once, and give it what differs as an argument");
    if (all->scripts == NULL)
        all->scripts = calloc(SCRIPTS_MAX, sizeof(struct moon_vm_script *));
    struct moon_vm_script *script =
        all->scripts == NULL ? NULL : calloc(1, sizeof(*script) + source.len);
    if (script == NULL)
        return say(error, MOON_ENOMEM, moon_err_text(MOON_ENOMEM));
    script->client = client;
    script->len = source.len;
    if (source.len > 0)
        memcpy(script->source, source.ptr, source.len);
    all->scripts[all->script_count++] = script;
    *number = all->script_count;
    return MOON_OK;
}

static struct moon_redis_script *use_script(struct moon_vm *vm, uint32_t number,
                                            char *error)
{
    if (number - 1 >= vm->redis.script_count) {
        (void)say(error, MOON_EINVAL, "no such script");
        return NULL;
    }
    struct moon_vm_script *script = vm->redis.scripts[number - 1];
    struct moon_redis *redis = moon_vm_redis_use(vm, script->client, error);
    if (redis == NULL || script->script != NULL)
        return script->script;
    script->script =
        moon_redis_script_get(redis, moon_str(script->source, script->len));
    if (script->script == NULL)
        (void)say(error, MOON_ENOMEM, moon_err_text(MOON_ENOMEM));
    return script->script;
}

/* ---- calls ---- */

static void drop_reply(struct moon_redis_call *call)
{
    if (call->reply != NULL)
        moon_redis_reply_free(call->reply);
    call->reply = NULL;
}

struct moon_redis_call *moon_redis_call_of(struct moon_vm *vm)
{
    struct moon_task *task = moon_task_running();
    (void)vm;
    return task == NULL ? NULL : task->redis;
}

/* It stays with the task's place for the next one: most requests of an app that
 * uses Redis do. */
struct moon_redis_call *moon_redis_call_begin(struct moon_vm *vm)
{
    struct moon_task *task = moon_task_running();
    (void)vm;
    if (task == NULL)
        return NULL;
    if (task->redis == NULL)
        task->redis = calloc(1, sizeof(*task->redis));
    if (task->redis == NULL)
        return NULL;
    task->holds = true;
    drop_reply(task->redis);
    task->redis->op = NULL;
    task->redis->err = MOON_OK;
    task->redis->why[0] = '\0';
    return task->redis;
}

static void on_done(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct moon_task *task = ctx;
    struct moon_redis_call *call = task->redis;
    call->op = NULL;
    call->err = err;
    call->reply = *reply;
    *reply = NULL;
    if (err != MOON_OK)
        (void)say(call->why, err, whyz);
    task->vm->redis.waiting--;
    moon_task_wake(task, 0);
}

static void undo(struct moon_task *task, void *data)
{
    struct moon_redis_call *call = data;
    moon_redis_cancel(call->op);
    call->op = NULL;
    task->vm->redis.waiting--;
}

/* What was sent is waited for, or refused at once. */
static enum moon_err wait_for(struct moon_vm *vm, struct moon_redis_call *call,
                              enum moon_err err)
{
    if (err != MOON_OK)
        return say(call->why, err, moon_redis_whyz());
    err = moon_task_wait(moon_task_running(), "redis", undo, call);
    if (err != MOON_OK) {
        moon_redis_cancel(call->op);
        call->op = NULL;
        return say(call->why, err, "the task waits already");
    }
    vm->redis.waiting++;
    return MOON_OK;
}

enum moon_err moon_vm_redis_send(struct moon_vm *vm,
                                 const struct moon_redis_call_options *options,
                                 const struct moon_redis_command *commands,
                                 uint32_t count)
{
    struct moon_redis_call *call = moon_redis_call_begin(vm);
    if (call == NULL)
        return MOON_ENOMEM;
    struct moon_redis *redis =
        moon_vm_redis_use(vm, options->client, call->why);
    if (redis == NULL)
        return MOON_EFULL;
    const struct moon_redis_how how = {
        .flags = options->flags,
        .timeout_ms = options->timeout_ms,
        .done = on_done,
        .ctx = moon_task_running(),
    };
    if (options->own == 0)
        return wait_for(
            vm, call, moon_redis_send(redis, commands, count, &how, &call->op));
    struct moon_redis_own *own = moon_vm_redis_own(vm, options->own);
    if (own == NULL)
        return say(call->why, MOON_ECLOSED, "the link was given back");
    return wait_for(vm, call,
                    moon_redis_own_send(own, commands, count, &how, &call->op));
}

enum moon_err moon_vm_redis_eval(struct moon_vm *vm, uint32_t number,
                                 const struct moon_str *argv, uint32_t keys,
                                 uint32_t args)
{
    struct moon_redis_call *call = moon_redis_call_begin(vm);
    if (call == NULL)
        return MOON_ENOMEM;
    struct moon_redis_script *script = use_script(vm, number, call->why);
    if (script == NULL)
        return MOON_EFULL;
    const struct moon_redis_how how = {.done = on_done,
                                       .ctx = moon_task_running()};
    return wait_for(vm, call,
                    moon_redis_eval(script, argv, keys, args, &how, &call->op));
}

/* ---- the ends ---- */

void moon_redis_end_task(struct moon_task *task)
{
    moon_vm_redis_owns_end(task->vm, task);
    if (task->redis != NULL)
        drop_reply(task->redis);
}

void moon_vm_redis_activate(struct moon_vm *vm)
{
    vm->redis.live = true;
}

void moon_vm_redis_retire(struct moon_vm *vm)
{
    moon_vm_redis_subs_end(vm);
}

void moon_vm_redis_release(struct moon_vm *vm)
{
    struct moon_vm_redis *all = &vm->redis;
    moon_vm_redis_subs_end(vm);
    for (uint32_t i = 0; i < all->script_count; i++) {
        if (all->scripts[i]->script != NULL)
            moon_redis_script_unref(all->scripts[i]->script);
        all->scripts[i]->script = NULL;
    }
    for (uint32_t i = 0; i < all->client_count; i++) {
        if (all->clients[i]->redis != NULL)
            moon_redis_unref(all->clients[i]->redis);
        all->clients[i]->redis = NULL;
    }
}

void moon_vm_redis_deinit(struct moon_vm *vm)
{
    struct moon_vm_redis *all = &vm->redis;
    moon_vm_redis_subs_free(vm);
    for (uint32_t i = 0; i < all->script_count; i++)
        free(all->scripts[i]);
    for (uint32_t i = 0; i < all->client_count; i++)
        free_client(all->clients[i]);
    free(all->scripts);
    free(all->clients);
}
