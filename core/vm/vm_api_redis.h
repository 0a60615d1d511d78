/* moonshine.redis: what a VM has of Redis (state/redis.h).
 *
 * Lua knows all of it by numbers. Clients and scripts are noted while the app
 * loads, on whatever thread that is, taken when a task uses them first, and
 * held until the VM closes. A task waits for one call at a time; its answer is
 * the task's until it was fetched. A task that is ended lets go of its call,
 * and of the links of its own that it took.
 *
 * Loop thread, where nothing else is said. Nothing here touches a lua_State;
 * vm_native_redis.c is what Lua calls. */
#ifndef MOON_VM_VM_API_REDIS_H
#define MOON_VM_VM_API_REDIS_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"
#include "state/redis.h"

struct moon_task;
struct moon_vm;

enum { MOON_VM_REDIS_TEXT = 256 }; /* room for an explanation */

/* Part of a VM; all zero to begin with. */
struct moon_vm_redis {
    struct moon_vm_client **clients; /* by number - 1; owned */
    struct moon_vm_script **scripts; /* by number - 1; owned */
    uint32_t client_count, script_count;
    struct moon_vm_own *owns; /* owned */
    struct moon_vm_sub *subs; /* owned */
    uint32_t serial;          /* of the last of these two kinds */
    uint32_t waiting;         /* tasks that wait for an answer */
    bool live;                /* messages of subscriptions count */
};

/* The answer that a task waits for, or has got. */
struct moon_redis_call {
    struct moon_redis_op *op; /* under way */
    struct redisReply *reply; /* owned, or NULL */
    enum moon_err err;
    char why[MOON_VM_REDIS_TEXT];
};

/* ---- the VM ---- */

/* The code goes live: from now on messages are delivered. */
void moon_vm_redis_activate(struct moon_vm *vm);
/* It was replaced, or the worker stops: nothing new is subscribed to. */
void moon_vm_redis_retire(struct moon_vm *vm);
/* No task is left: lets go of the clients. */
void moon_vm_redis_release(struct moon_vm *vm);
/* Frees the rest. Any thread. */
void moon_vm_redis_deinit(struct moon_vm *vm);
/* The task is over: what it waited for or took is let go of. */
void moon_redis_end_task(struct moon_task *task);

/* ---- clients and scripts ---- */

/* The number of the client for this URL and these options, on the thread that
 * has the VM. MOON_EINVAL: no such URL; MOON_EFULL; MOON_ENOMEM; told in
 * `error`, which has MOON_VM_REDIS_TEXT bytes. */
MOON_MUST_CHECK enum moon_err moon_vm_redis_open(
    struct moon_vm *vm, const char *urlz,
    const struct moon_redis_options *options, uint32_t *number, char *error);
/* Without the password; borrowed for the VM's life. */
const char *moon_vm_redis_urlz(const struct moon_vm *vm, uint32_t client);
/* The same for a script of a client. The source is copied. */
MOON_MUST_CHECK enum moon_err moon_vm_redis_prepare(struct moon_vm *vm,
                                                    uint32_t client,
                                                    struct moon_str source,
                                                    uint32_t *number,
                                                    char *error);

/* ---- calls, by the running task ----
 *
 * MOON_OK: it waits; once resumed it finds the answer in moon_redis_call_of.
 * Anything else: at once, with the reason in that call's `why`. */

struct moon_redis_call_options {
    uint32_t client;
    uint32_t own;   /* the link to use; 0: the shared one */
    uint32_t flags; /* of moon_redis_how */
    uint64_t timeout_ms;
};
MOON_MUST_CHECK enum moon_err moon_vm_redis_send(
    struct moon_vm *vm, const struct moon_redis_call_options *options,
    const struct moon_redis_command *commands, uint32_t count);
MOON_MUST_CHECK enum moon_err moon_vm_redis_eval(struct moon_vm *vm,
                                                 uint32_t script,
                                                 const struct moon_str *argv,
                                                 uint32_t keys, uint32_t args);
/* The running task's. NULL: there was no memory for it. */
struct moon_redis_call *moon_redis_call_of(struct moon_vm *vm);

/* ---- links of one's own: vm_api_redis_own.c ---- */

/* As a call. It belongs to the running task. */
MOON_MUST_CHECK enum moon_err moon_vm_redis_take(struct moon_vm *vm,
                                                 uint32_t client,
                                                 struct moon_str key,
                                                 uint32_t *number);
/* `keep`: others may use it; else it is closed. */
void moon_vm_redis_give(struct moon_vm *vm, uint32_t number, bool keep);

/* ---- subscriptions: vm_api_redis_sub.c ---- */

struct moon_vm_sub_options {
    uint32_t client;
    bool patterns;
    const struct moon_str *names;
    uint32_t count;
    uint32_t queue_max; /* messages */
};
MOON_MUST_CHECK enum moon_err moon_vm_redis_subscribe(
    struct moon_vm *vm, const struct moon_vm_sub_options *options,
    uint32_t *number, char *error);
struct moon_vm_message {
    struct moon_vm_message *next;
    struct moon_str channel, payload;
    char bytes[]; /* of both */
};
/* The next message, borrowed until the one after it is asked for. MOON_EAGAIN:
 * the running task waits for one, or for news, then asks again; MOON_ECLOSED:
 * no more will come. */
MOON_MUST_CHECK enum moon_err moon_vm_redis_next(
    struct moon_vm *vm, uint32_t number, const struct moon_vm_message **out);
/* What Redis said to it. MOON_OK: messages come, of all its names;
 * MOON_EAGAIN: nothing yet; MOON_EDENIED: no, and *whyz is why, borrowed until
 * it is forgotten. */
MOON_MUST_CHECK enum moon_err moon_vm_redis_confirmed(struct moon_vm *vm,
                                                      uint32_t number,
                                                      const char **whyz);
/* No more messages; those that wait are forgotten. Whoever waits for one is
 * woken. */
void moon_vm_redis_unsubscribe(struct moon_vm *vm, uint32_t number);
/* Its reader is gone: frees it. */
void moon_vm_redis_forget(struct moon_vm *vm, uint32_t number);
uint64_t moon_vm_redis_dropped(const struct moon_vm *vm, uint32_t number);

/* ---- private to vm_api_redis*.c ---- */

struct moon_vm_client {
    char *urlz;
    char *shownz;
    struct moon_redis_options options;
    struct moon_redis *redis; /* NULL until it is used */
};

/* The client, taken if it was not; NULL: why is in `error`. */
struct moon_redis *moon_vm_redis_use(struct moon_vm *vm, uint32_t client,
                                     char *error);
/* A fresh call of the running task, or NULL. */
struct moon_redis_call *moon_redis_call_begin(struct moon_vm *vm);
/* NULL if there is none of that number. */
struct moon_redis_own *moon_vm_redis_own(struct moon_vm *vm, uint32_t number);
void moon_vm_redis_owns_end(struct moon_vm *vm, const struct moon_task *task);
void moon_vm_redis_subs_end(struct moon_vm *vm);
void moon_vm_redis_subs_free(struct moon_vm *vm);

#endif
