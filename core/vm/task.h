/* Tasks: the coroutines of one VM, and the one operation each may wait on.
 *
 * A task runs the chain of a route, or else Lua's `main`, in a coroutine that
 * is reused until an error kills it. It serves a request, or is detached
 * (spawn, timers, on_start). Tasks are owned by the VM and numbered; the number
 * is what Lua holds. All on the loop thread. The gate (vm_call) is the only
 * code that resumes one. */
#ifndef MOON_VM_TASK_H
#define MOON_VM_TASK_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <stdint.h>
#include <uv.h>

struct lua_State;
struct moon_exchange;
struct moon_slot;
struct moon_vm;
struct moon_task;

/* First argument of Lua's main(kind, a, b, c, d). */
enum moon_main_kind {
    MOON_MAIN_SERVE = 1, /* slot, chain; with --dev, else the chain is called */
    MOON_MAIN_CALL = 2,  /* task number: what Lua left under it */
    MOON_MAIN_FAIL = 3,  /* slot or 0, task number, kind text, error value,
                            traceback: another task died */
    MOON_MAIN_BOOT = 4,  /* 1: on_start, 2: on_start and checks, 3: on_stop,
                            4: activate timers, 5: run a spec */
    MOON_MAIN_SERVE_LATE = 5, /* slot, chain, seconds to wait before */
};

enum moon_task_state {
    MOON_TASK_FREE,
    MOON_TASK_READY,   /* queued, to be resumed in the next turn */
    MOON_TASK_RUNNING, /* in the gate now */
    MOON_TASK_WAITING, /* suspended on its pending operation */
};

/* Undoes a pending operation: afterwards it will not wake the task. */
typedef void moon_task_undo(struct moon_task *task, void *data);

struct moon_task {
    struct moon_vm *vm;
    struct lua_State *co; /* anchored in the registry by co_ref */
    int co_ref;
    uint32_t number; /* index in the VM's table + 1, and a serial above */
    enum moon_task_state state;
    enum moon_main_kind kind;
    bool idle_timer; /* between two runs: ends at once with its VM */
    bool in_request, parked, unpark_kept;
    uint8_t cancel;           /* enum moon_trip to raise at the next resume */
    const char *cancel_kindz; /* static: what the failure is called */
    bool has_co;
    bool holds; /* what its end lets go of: sockets, answers of Redis */
    bool named; /* Lua knows its coroutine: nobody else gets that */
    struct moon_exchange *x; /* the request it works for, or NULL */
    uint32_t slot;
    uint32_t arg; /* chain, or what BOOT does */
    uint32_t cpu_limit_ms;
    int result; /* of the last operation, for moon_task_result */
    moon_task_undo *undo;
    void *undo_data;
    const char *wait_what;
    /* The place of a request that it waits for, though that is not its own. */
    const struct moon_slot *guest_of;
    uv_timer_t timer; /* park's deadline; initialised with the task */
    bool timer_open;
    uint64_t due_ns; /* probe: when a park with a timeout is over, by the
                        shifted clock (vm/travel.h) */
    struct moon_tcp *sockets;      /* connected for it, closed at its end */
    struct moon_redis_call *redis; /* owned; kept for the next in its place */
    struct moon_task *prev, *next; /* live tasks of the VM */
    struct moon_task *ready_next;  /* the ready queue */
};

/* The task whose Lua runs now on this thread; NULL outside the gate. */
struct moon_task *moon_task_running(void);
/* Where that pointer lies, for whoever must read it from outside (the master,
 * before it kills a process that hangs). Of the calling thread. */
struct moon_task *const *moon_task_running_at(void);

/* Starts an operation: the next yield of the running task suspends it until
 * moon_task_wake. At most one; a second is our bug. MOON_EDENIED when the
 * running code may not yield. */
MOON_MUST_CHECK enum moon_err moon_task_wait(struct moon_task *task,
                                             const char *what_z,
                                             moon_task_undo *undo, void *data);
/* The operation is over: the task is queued and resumed in the next turn of
 * the ready queue. Never called from inside Lua. */
void moon_task_wake(struct moon_task *task, int result);
/* The same from code that Lua called (unpark): queued likewise. */
void moon_task_make_ready(struct moon_task *task, int result);

#endif
