/* Private to core/vm: the VM's struct, and what its files share. */
#ifndef MOON_VM_INTERNAL_H
#define MOON_VM_INTERNAL_H

#include "vm/budget.h"
#include "vm/limit_gate.h"
#include "vm/memory.h"
#include "vm/task.h"
#include "vm/vm.h"
#include "vm/vm_api_redis.h"
#include "vm/vm_slot.h"

#include <lauxlib.h>
#include <lua.h>

struct moon_vm_file {
    struct moon_vm_file *next;
    struct moon_str name, bytes;
};

enum moon_vm_phase {
    MOON_VM_LOADING,
    MOON_VM_LOADED,  /* maybe attached, not started */
    MOON_VM_STARTED, /* on_start is done */
    MOON_VM_RETIRED,
    MOON_VM_CLOSING, /* closing its handles, then idle */
    MOON_VM_IDLE,
};

struct moon_vm {
    struct moon_memory memory;
    struct moon_trap trap;
    struct moon_vm_options options;
    struct moon_app app;
    struct moon_limit_set limits;
    struct moon_vm_redis redis;
    lua_State *L;
    int main_ref, contexts_ref;
    int captured_ref; /* --dev: what was on the stack of the failure that is
                         being handled */
    enum moon_vm_phase phase;

    uv_loop_t *loop; /* NULL until attached */
    struct moon_watch *watch;

    struct moon_task **tasks; /* by index; owned */
    uint32_t task_count, task_cap, free_count, live_count, detached_count;
    uint32_t request_count, child_count, guest_count;
    struct moon_task *free_tasks, *live;
    struct moon_task *ready_first, *ready_last;
    uv_idle_t ready_handle, collect_handle;
    int cycles_wanted; /* collector cycles still to run, see vm_collect.c */
    size_t used_before_cycle;
    uint32_t open_handles; /* of libuv, and jobs of the thread pool */

    struct moon_slot **slots; /* by number - 1; owned */
    uint32_t slot_count, slot_cap;
    struct moon_slot *free_slots;

    moon_vm_done *start_done;
    void *start_ctx;
    bool start_reported, start_ok;
    struct moon_buf start_text;
    void (*idle_cb)(void *ctx);
    void *idle_ctx;

    struct moon_vm_file *outside; /* probe: read from disk; owned */
    uint32_t *declared;           /* numbers of its metrics; owned */
    uint32_t declared_count, declared_cap;
    struct moon_vm_stats stats;
    size_t used_after_cycle;
};

/* vm_call.c: the gate. Runs `task` until it yields, ends or dies, and deals
 * with the outcome. nargs values are on task->co. Never inside Lua. */
void moon_vm_call_resume(struct moon_vm *vm, struct moon_task *task, int nargs);
/* Gives a task its coroutine, with an empty stack that has room for a function
 * and its arguments. */
MOON_MUST_CHECK enum moon_err moon_vm_call_prepare(struct moon_vm *vm,
                                                   struct moon_task *task);
/* Takes it away again, if it has one: the collector's from now on. Never
 * raises. */
void moon_vm_call_drop(struct moon_task *task);
/* Runs fn(L) protected on the main thread; the error text goes to `error`
 * (may be NULL). */
MOON_MUST_CHECK enum moon_err moon_vm_call_protected(struct moon_vm *vm,
                                                     lua_CFunction fn, void *ud,
                                                     struct moon_buf *error);
void moon_vm_set_here(struct moon_vm *vm);
/* From C that Lua called and that would need too much memory outside of Lua:
 * ends the task as if it had been Lua's. Raises. */
int moon_vm_raise_memory(lua_State *L);

/* vm_api_metrics.c: at the VM's end. */
void moon_vm_release_metrics(struct moon_vm *vm);

/* vm.c: puts the framework's modules where require finds them, and declares to
 * the FFI what they call. Takes and leaves nothing; may raise. */
void moon_vm_open_framework(lua_State *L);

/* vm_capture.c. */
/* Was the error value at the top raised to answer a status, so that nobody asks
 * where? Leaves the stack as it was; may raise. */
bool moon_vm_is_expected(lua_State *L);
/* --dev, lua_CFunction, the message handler of what may fail: keeps what is on
 * the stack (see moonshine/dev_facts.lua) and returns the error value as it is.
 * Runs no Lua code, since the code that failed may have been stopped. */
int moon_vm_capture(lua_State *L);
/* Pushes a field of what was kept, or all of it (NULL); false, and nothing
 * pushed, if there is none. */
bool moon_vm_push_captured(lua_State *L, const struct moon_vm *vm,
                           const char *fieldz);
/* Once the failure was dealt with. Never raises. */
void moon_vm_forget_captured(struct moon_vm *vm);

/* vm.c: is a chunk of that name one of the framework's own? */
bool moon_vm_is_framework(const char *sourcez);

/* vm_collect.c: starts to collect between loop turns. */
void moon_vm_collect(struct moon_vm *vm);

/* task.c */
MOON_MUST_CHECK struct moon_task *moon_task_acquire(struct moon_vm *vm,
                                                    enum moon_main_kind kind);
void moon_task_release(struct moon_task *task);
void moon_task_enqueue(struct moon_task *task);
void moon_task_set_running(struct moon_task *task);
/* NULL if it is gone; vm may be NULL. */
struct moon_task *moon_task_find(struct moon_vm *vm, uint32_t number);
/* (Re)starts the timer of a task that is parked and has one. */
void moon_task_arm(struct moon_task *task, uint64_t ms);
/* vm_api_stream.c: a request is over; tasks that are not its own and wait for
 * it, go on. */
void moon_vm_dismiss_guests(struct moon_vm *vm, const struct moon_slot *slot);
/* Cancels what it waits on and queues it to raise `kindz` (static text). */
void moon_task_kill(struct moon_task *task, enum moon_trip reason,
                    const char *kindz);
/* A request's task is over: empties the slot, lets go of the exchange. */
void moon_task_end_request(struct moon_task *task);
/* Handles of a VM without tasks are closed, then it is idle. */
void moon_vm_maybe_idle(struct moon_vm *vm);
/* One of open_handles is gone; with the last one the VM is idle, and may be
 * destroyed before this returns. */
void moon_vm_handle_gone(struct moon_vm *vm);
void moon_vm_ready_cb(uv_idle_t *handle);

/* vm_embed.c: the framework's sources. */
struct moon_embedded {
    const char *namez; /* "moonshine.app" */
    const char *pathz; /* "moonshine/app.lua" */
    const char *bytes;
    size_t len;
};
extern const struct moon_embedded moon_embedded_lua[];
extern const size_t moon_embedded_lua_count;
extern const char moon_embedded_cdef[];

#endif
