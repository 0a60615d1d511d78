#include "base/log.h"
#include "vm/vm_api_redis.h"
#include "vm/vm_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* What may wait for one reader, besides their number. */
enum { QUEUE_BYTES_MAX = 16 << 20 };

/* A subscription of the application: one or more of the client's, one queue,
 * one task that reads it. */
struct moon_vm_sub {
    struct moon_vm_sub *next;
    struct moon_vm *vm;
    uint32_t number, client;
    struct moon_task *reader; /* that waits, or NULL */
    struct moon_vm_message *first, **last;
    struct moon_vm_message *current; /* the reader has it; owned */
    uint32_t queued, queue_max;
    size_t queued_bytes;
    uint64_t dropped, dropped_told;
    uint32_t confirmed; /* of its names, so far */
    bool refused;       /* `why` says why */
    bool ended;         /* nothing more is subscribed to */
    bool lost;          /* told so; a new link is to be told, too */
    char why[MOON_VM_REDIS_TEXT];
    char what[160]; /* for the log */
    uint32_t count; /* of subs that are held */
    struct moon_redis_sub *subs[];
};

static struct moon_vm_sub **find(struct moon_vm *vm, uint32_t number)
{
    struct moon_vm_sub **at = &vm->redis.subs;
    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

static void wake(struct moon_vm_sub *sub)
{
    struct moon_task *reader = sub->reader;
    sub->reader = NULL;
    if (reader == NULL)
        return;
    /* If its code is replaced before it runs again, it has work to do. */
    reader->idle_timer = false;
    moon_task_make_ready(reader, 0);
}

static void end(struct moon_vm_sub *sub)
{
    sub->ended = true;
    while (sub->count > 0)
        moon_redis_unsubscribe(sub->subs[--sub->count]);
}

static struct moon_vm_message *take(struct moon_vm_sub *sub)
{
    struct moon_vm_message *message = sub->first;
    if (message == NULL)
        return NULL;
    sub->first = message->next;
    if (sub->first == NULL)
        sub->last = &sub->first;
    sub->queued--;
    sub->queued_bytes -= message->channel.len + message->payload.len;
    return message;
}

static void forget_all(struct moon_vm_sub *sub)
{
    struct moon_vm_message *message;
    while ((message = take(sub)) != NULL)
        free(message);
}

/* ---- what comes ---- */

static void drop(struct moon_vm_sub *sub)
{
    if (sub->dropped++ == sub->dropped_told)
        moon_log(MOON_LOG_WARN,
                 "%s: messages come faster than the function takes them: what "
                 "does not fit into its queue (%u) is dropped",
                 sub->what, sub->queue_max);
}

static void on_message(void *ctx, struct moon_str channel,
                       struct moon_str payload)
{
    struct moon_vm_sub *sub = ctx;
    size_t bytes = channel.len + payload.len;
    if (!sub->vm->redis.live)
        return;
    struct moon_vm_message *message = NULL;
    if (sub->queued < sub->queue_max &&
        (sub->queued == 0 || sub->queued_bytes + bytes <= QUEUE_BYTES_MAX))
        message = malloc(sizeof(*message) + bytes);
    if (message == NULL) {
        drop(sub);
        return;
    }
    message->next = NULL;
    message->channel = moon_str(message->bytes, channel.len);
    message->payload = moon_str(message->bytes + channel.len, payload.len);
    memcpy(message->bytes, channel.ptr, channel.len);
    if (payload.len > 0)
        memcpy(message->bytes + channel.len, payload.ptr, payload.len);
    *sub->last = message;
    sub->last = &message->next;
    sub->queued++;
    sub->queued_bytes += bytes;
    wake(sub);
}

static void on_news(void *ctx, enum moon_redis_news news, const char *whyz)
{
    struct moon_vm_sub *sub = ctx;
    switch (news) {
    case MOON_REDIS_SUBSCRIBED:
        if (sub->lost)
            moon_log(MOON_LOG_INFO, "%s: messages come again", sub->what);
        sub->lost = false;
        sub->confirmed++;
        wake(sub);
        break;
    case MOON_REDIS_LOST:
        if (!sub->lost)
            moon_log(MOON_LOG_WARN, "%s: no messages for now: %s", sub->what,
                     whyz);
        sub->lost = true;
        break;
    case MOON_REDIS_REFUSED:
        moon_log(MOON_LOG_ERROR, "%s: refused: %s", sub->what, whyz);
        sub->refused = true;
        (void)snprintf(sub->why, sizeof(sub->why), "%s", whyz);
        end(sub);
        wake(sub);
        break;
    }
}

/* ---- beginning and end ---- */

static struct moon_vm_sub *make(struct moon_vm *vm,
                                const struct moon_vm_sub_options *options)
{
    size_t size = options->count * sizeof(struct moon_redis_sub *);
    struct moon_vm_sub *sub = calloc(1, sizeof(*sub) + size);
    if (sub == NULL)
        return NULL;
    sub->vm = vm;
    sub->client = options->client;
    sub->queue_max = options->queue_max;
    sub->last = &sub->first;
    sub->number = ++vm->redis.serial;
    size_t len = options->names[0].len < 60 ? options->names[0].len : 60;
    (void)snprintf(sub->what, sizeof(sub->what), "subscription to %.*s%s",
                   (int)len, options->names[0].ptr,
                   options->count > 1 ? " and others" : "");
    return sub;
}

enum moon_err moon_vm_redis_subscribe(struct moon_vm *vm,
                                      const struct moon_vm_sub_options *options,
                                      uint32_t *number, char *error)
{
    struct moon_redis *redis = moon_vm_redis_use(vm, options->client, error);
    if (redis == NULL)
        return MOON_EFULL;
    if (vm->phase >= MOON_VM_RETIRED) {
        (void)snprintf(error, MOON_VM_REDIS_TEXT, "this code was replaced");
        return MOON_ECLOSED;
    }
    struct moon_vm_sub *sub = make(vm, options);
    enum moon_err err = sub == NULL ? MOON_ENOMEM : MOON_OK;
    for (uint32_t i = 0; err == MOON_OK && i < options->count; i++) {
        const struct moon_redis_listener listener = {on_message, on_news, sub};
        err = moon_redis_subscribe(redis, options->names[i], options->patterns,
                                   &listener, &sub->subs[i]);
        sub->count += err == MOON_OK;
    }
    if (err != MOON_OK) {
        (void)snprintf(error, MOON_VM_REDIS_TEXT, "%s",
                       sub == NULL ? moon_err_text(err) : moon_redis_whyz());
        if (sub != NULL)
            end(sub);
        free(sub);
        return err;
    }
    sub->next = vm->redis.subs;
    vm->redis.subs = sub;
    *number = sub->number;
    return MOON_OK;
}

enum moon_err moon_vm_redis_confirmed(struct moon_vm *vm, uint32_t number,
                                      const char **whyz)
{
    const struct moon_vm_sub *sub = *find(vm, number);
    if (sub == NULL)
        return MOON_EAGAIN;
    *whyz = sub->why;
    if (sub->refused)
        return MOON_EDENIED;
    return sub->confirmed >= sub->count ? MOON_OK : MOON_EAGAIN;
}

void moon_vm_redis_unsubscribe(struct moon_vm *vm, uint32_t number)
{
    struct moon_vm_sub *sub = *find(vm, number);
    if (sub == NULL)
        return;
    end(sub);
    forget_all(sub);
    wake(sub);
}

void moon_vm_redis_forget(struct moon_vm *vm, uint32_t number)
{
    struct moon_vm_sub **at = find(vm, number);
    struct moon_vm_sub *sub = *at;
    if (sub == NULL)
        return;
    *at = sub->next;
    end(sub);
    forget_all(sub);
    free(sub->current);
    free(sub);
}

void moon_vm_redis_subs_end(struct moon_vm *vm)
{
    for (struct moon_vm_sub *sub = vm->redis.subs; sub != NULL; sub = sub->next)
        end(sub);
}

void moon_vm_redis_subs_free(struct moon_vm *vm)
{
    while (vm->redis.subs != NULL)
        moon_vm_redis_forget(vm, vm->redis.subs->number);
}

/* ---- reading ---- */

static void undo(struct moon_task *task, void *data)
{
    struct moon_vm_sub *sub = data;
    (void)task;
    sub->reader = NULL;
}

enum moon_err moon_vm_redis_next(struct moon_vm *vm, uint32_t number,
                                 const struct moon_vm_message **out)
{
    struct moon_vm_sub *sub = *find(vm, number);
    if (sub == NULL)
        return MOON_ECLOSED;
    free(sub->current);
    *out = sub->current = take(sub);
    if (sub->first == NULL && sub->dropped > sub->dropped_told) {
        moon_log(MOON_LOG_WARN, "%s: %llu messages were dropped", sub->what,
                 (unsigned long long)(sub->dropped - sub->dropped_told));
        sub->dropped_told = sub->dropped;
    }
    if (*out != NULL)
        return MOON_OK;
    if (sub->ended)
        return MOON_ECLOSED;
    struct moon_task *task = moon_task_running();
    if (moon_task_wait(task, "subscription", undo, sub) != MOON_OK)
        return MOON_ECLOSED;
    sub->reader = task;
    return MOON_EAGAIN;
}

uint64_t moon_vm_redis_dropped(const struct moon_vm *vm, uint32_t number)
{
    for (const struct moon_vm_sub *sub = vm->redis.subs; sub; sub = sub->next)
        if (sub->number == number)
            return sub->dropped;
    return 0;
}
