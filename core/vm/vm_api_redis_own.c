#include "vm/vm_api_redis.h"
#include "vm/vm_internal.h"

#include <stdio.h>
#include <stdlib.h>

struct moon_vm_own {
    struct moon_vm_own *next;
    uint32_t number, client;
    struct moon_task *owner;
    struct moon_redis_own *link;
};

static struct moon_vm_own **find(struct moon_vm *vm, uint32_t number)
{
    struct moon_vm_own **at = &vm->redis.owns;
    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

static void end(struct moon_vm_own **at, bool keep)
{
    struct moon_vm_own *own = *at;
    *at = own->next;
    if (keep)
        moon_redis_own_give(own->link);
    else
        moon_redis_own_close(own->link);
    free(own);
}

struct moon_redis_own *moon_vm_redis_own(struct moon_vm *vm, uint32_t number)
{
    struct moon_vm_own *own = *find(vm, number);
    return own == NULL ? NULL : own->link;
}

static void on_ready(void *ctx, enum moon_err err, const char *whyz)
{
    struct moon_vm_own *own = ctx;
    struct moon_redis_call *call = own->owner->redis;
    call->err = err;
    (void)snprintf(call->why, sizeof(call->why), "%s", whyz);
    own->owner->vm->redis.waiting--;
    moon_task_wake(own->owner, 0);
}

/* The task is being ended before its link was there. */
static void undo(struct moon_task *task, void *data)
{
    const struct moon_vm_own *own = data;
    task->vm->redis.waiting--;
    end(find(task->vm, own->number), false);
}

enum moon_err moon_vm_redis_take(struct moon_vm *vm, uint32_t client,
                                 struct moon_str key, uint32_t *number)
{
    struct moon_redis_call *call = moon_redis_call_begin(vm);
    struct moon_vm_own *own = calloc(1, sizeof(*own));
    struct moon_redis *redis = call == NULL || own == NULL
                                   ? NULL
                                   : moon_vm_redis_use(vm, client, call->why);
    if (redis == NULL) {
        free(own);
        return call == NULL || own == NULL ? MOON_ENOMEM : MOON_EFULL;
    }
    own->client = client;
    own->owner = moon_task_running();
    enum moon_err err =
        moon_redis_own_take(redis, key, 0, on_ready, own, &own->link);
    if (err != MOON_OK) {
        free(own);
        (void)snprintf(call->why, sizeof(call->why), "%s", moon_redis_whyz());
        return err;
    }
    own->number = *number = ++vm->redis.serial;
    own->next = vm->redis.owns;
    vm->redis.owns = own;
    err = moon_task_wait(own->owner, "redis link", undo, own);
    if (err != MOON_OK) {
        end(find(vm, own->number), false);
        (void)snprintf(call->why, sizeof(call->why), "the task waits already");
        return err;
    }
    vm->redis.waiting++;
    return MOON_OK;
}

void moon_vm_redis_give(struct moon_vm *vm, uint32_t number, bool keep)
{
    struct moon_vm_own **at = find(vm, number);
    if (*at != NULL)
        end(at, keep);
}

void moon_vm_redis_owns_end(struct moon_vm *vm, const struct moon_task *task)
{
    struct moon_vm_own **at = &vm->redis.owns;
    while (*at != NULL) {
        if ((*at)->owner == task)
            end(at, false);
        else
            at = &(*at)->next;
    }
}
