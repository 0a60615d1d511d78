/* What the Lua framework may call through LuaJIT's FFI, and nothing else.
 *
 * The text between the two ffi marks is given to ffi.cdef as it stands, so
 * this header is the only place where the border is written down; keep it to
 * plain declarations. Rules for every function here: it never raises, never
 * yields, never calls lua_*, never re-enters the VM, and keeps no pointer to
 * Lua memory after it returns. Bytes handed out live until the request ends,
 * or until the next call where said. Bump MOON_ABI_VERSION with each change
 * that an older framework would not survive. */
#ifndef MOON_VM_ABI_H
#define MOON_VM_ABI_H

#include "base/compiler.h"
#include "vm/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOON_ABI_VERSION 1

#pragma GCC visibility push(default)
/* ffi:begin */
/* A request as Lua sees it: a numbered place that outlives the request in it,
 * so that a handle is made once and kept. */
typedef struct moon_slot moon_slot;
typedef struct moon_bytes { const char *ptr; size_t len; } moon_bytes;

/* The handle of a place, valid as long as the VM; NULL if there is none. */
moon_slot *moon_slot_get(uint32_t slot);

/* ---- tasks: vm/task.c ---- */
int moon_abi_version(void);
/* Place number of the running task; 0 while the app loads. */
uint32_t moon_task_current(void);
/* Static text: why the running code may not yield ("while loading"), or NULL
 * if it may. */
const char *moon_task_no_yield(void);
/* The task's next yield suspends it until moon_task_unpark or, if timeout_ms
 * is not negative, until the time is over. `what` (static or interned for the
 * VM's life) is shown by `status --requests`. 0, or negative when it may not
 * wait. */
int moon_task_park(double timeout_ms, const char *what);
/* After the yield: 1 unparked, 0 time over. */
int moon_task_result(void);
/* Wakes a parked task, once; a second call before it ran is kept. False if it
 * is gone. */
bool moon_task_unpark(uint32_t task);
/* Queues a new task; Lua's main is entered with (MAIN_CALL, number). With
 * `in_request` it belongs to the running task's request and dies with it.
 * 0 when max_tasks are alive. */
uint32_t moon_task_spawn(bool in_request);
/* Ends a task from outside: its pending operation is cancelled and an error
 * raised in it. */
bool moon_task_cancel(uint32_t task);
/* Marks the running task as a timer loop: ended at once when its generation
 * retires. */
void moon_task_set_timer(void);
/* The app's on_start and checks are over (ok) or failed with this text. */
void moon_vm_started(bool ok, const char *text, size_t len);
bool moon_vm_stopping(void); /* retired, draining or shutting down */
/* ffi:end */
#pragma GCC visibility pop

#endif
