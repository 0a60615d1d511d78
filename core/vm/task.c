#include "vm/task.h"

#include "base/log.h"
#include "vm/abi.h"
#include "vm/travel.h"
#include "vm/vm_api_session.h"
#include "vm/vm_api_tcp.h"
#include "vm/vm_internal.h"

#include <stdlib.h>

/* A task's number is its index + 1 below, a serial above. */
enum { POOL_MAX = 256, INDEX_BITS = 20, INDEX_MASK = (1 << INDEX_BITS) - 1 };

static _Thread_local struct moon_task *running;

struct moon_task *moon_task_running(void)
{
    return running;
}

struct moon_task *const *moon_task_running_at(void)
{
    return &running;
}

void moon_task_set_running(struct moon_task *task)
{
    running = task;
}

/* ---- acquiring and releasing ---- */

static struct moon_task *make_task(struct moon_vm *vm)
{
    if (vm->task_count == vm->task_cap) {
        uint32_t cap = vm->task_cap == 0 ? 16 : vm->task_cap * 2;
        struct moon_task **grown =
            realloc(vm->tasks, cap * sizeof(vm->tasks[0]));
        if (grown == NULL)
            return NULL;
        vm->tasks = grown;
        vm->task_cap = cap;
    }
    if (vm->task_count >= INDEX_MASK)
        return NULL;
    struct moon_task *task = calloc(1, sizeof(*task));
    if (task == NULL)
        return NULL;
    task->vm = vm;
    task->number = vm->task_count + 1;
    vm->tasks[vm->task_count++] = task;
    return task;
}

struct moon_task *moon_task_acquire(struct moon_vm *vm,
                                    enum moon_main_kind kind)
{
    struct moon_task *task = vm->free_tasks;
    if (MOON_LIKELY(task != NULL)) {
        vm->free_tasks = task->next;
        vm->free_count--;
    } else {
        task = make_task(vm);
        if (task == NULL)
            return NULL;
    }
    task->kind = kind;
    task->state = MOON_TASK_READY;
    task->prev = NULL;
    task->next = vm->live;
    if (vm->live != NULL)
        vm->live->prev = task;
    vm->live = task;
    vm->live_count++;
    return task;
}

static void undo_pending(struct moon_task *task)
{
    if (task->undo != NULL) {
        moon_task_undo *undo = task->undo;
        task->undo = NULL;
        undo(task, task->undo_data);
        task->undo_data = NULL;
    }
    task->parked = false;
}

static void let_go(struct moon_task *task)
{
    task->holds = false;
    moon_tcp_end_task(task);
    moon_redis_end_task(task);
}

void moon_task_release(struct moon_task *task)
{
    struct moon_vm *vm = task->vm;
    if (MOON_UNLIKELY(task->holds))
        let_go(task);
    if (MOON_UNLIKELY(task->undo != NULL)) /* or it would wake the next one */
        undo_pending(task);
    if (task->prev != NULL)
        task->prev->next = task->next;
    else
        vm->live = task->next;
    if (task->next != NULL)
        task->next->prev = task->prev;
    vm->live_count--;
    if (task->in_request)
        vm->child_count--;
    else if (task->x == NULL)
        vm->detached_count--;
    if (vm->free_count >= POOL_MAX || task->named)
        moon_vm_call_drop(task);
    task->state = MOON_TASK_FREE;
    task->x = NULL;
    task->slot = 0;
    task->arg = 0;
    task->cancel = MOON_TRIP_NONE;
    task->idle_timer = task->in_request = task->parked = task->unpark_kept =
        task->named = false;
    task->wait_what = NULL;
    task->prev = NULL;
    /* A number seen by Lua must not name the next task in this place. */
    task->number += 1u << INDEX_BITS;
    task->next = vm->free_tasks;
    vm->free_tasks = task;
    vm->free_count++;
    if (MOON_UNLIKELY(vm->phase == MOON_VM_RETIRED))
        moon_vm_maybe_idle(vm);
}

struct moon_task *moon_task_find(struct moon_vm *vm, uint32_t number)
{
    uint32_t index = (number & INDEX_MASK) - 1;
    if (vm == NULL || index >= vm->task_count)
        return NULL;
    struct moon_task *task = vm->tasks[index];
    return task->number == number && task->state != MOON_TASK_FREE ? task
                                                                   : NULL;
}

static struct moon_task *find(uint32_t number)
{
    return moon_task_find(moon_vm_here(), number);
}

/* ---- the ready queue ---- */

void moon_task_enqueue(struct moon_task *task)
{
    struct moon_vm *vm = task->vm;
    task->state = MOON_TASK_READY;
    task->ready_next = NULL;
    if (vm->ready_last != NULL) {
        vm->ready_last->ready_next = task;
    } else {
        vm->ready_first = task;
        (void)uv_idle_start(&vm->ready_handle, moon_vm_ready_cb);
    }
    vm->ready_last = task;
}

/* A task that was not entered yet gets main's arguments; how many. */
static int push_entry(struct moon_vm *vm, struct moon_task *task)
{
    if (task->arg == 0 || task->kind == MOON_MAIN_SERVE ||
        moon_vm_call_prepare(vm, task) != MOON_OK)
        return 0;
    lua_rawgeti(task->co, LUA_REGISTRYINDEX, vm->main_ref);
    lua_pushinteger(task->co, task->kind);
    lua_pushinteger(task->co, (lua_Integer)task->arg);
    task->arg = 0;
    return 2;
}

/* Takes as many as were queued when the turn began: what these queue in turn
 * waits for the next one, so that a busy task cannot starve the sockets. */
void moon_vm_ready_cb(uv_idle_t *handle)
{
    struct moon_vm *vm = handle->data;
    struct moon_task *last = vm->ready_last;
    struct moon_task *task;
    do {
        task = vm->ready_first;
        if (task == NULL)
            break;
        vm->ready_first = task->ready_next;
        if (vm->ready_first == NULL)
            vm->ready_last = NULL;
        moon_vm_call_resume(vm, task, push_entry(vm, task));
    } while (task != last);
    if (vm->ready_first == NULL && vm->open_handles > 0)
        (void)uv_idle_stop(&vm->ready_handle);
}

/* ---- waiting and waking ---- */

enum moon_err moon_task_wait(struct moon_task *task, const char *what_z,
                             moon_task_undo *undo, void *data)
{
    if (task == NULL || task->undo != NULL)
        return MOON_EDENIED;
    task->undo = undo;
    task->undo_data = data;
    task->wait_what = what_z;
    if (task->x != NULL)
        task->x->wait_what = what_z;
    return MOON_OK;
}

void moon_task_make_ready(struct moon_task *task, int result)
{
    task->undo = NULL;
    task->undo_data = NULL;
    task->parked = false;
    task->result = result;
    if (task->state != MOON_TASK_RUNNING)
        moon_task_enqueue(task);
    else
        task->state = MOON_TASK_READY; /* the gate queues it at the yield */
}

void moon_task_wake(struct moon_task *task, int result)
{
    moon_task_make_ready(task, result);
}

void moon_task_kill(struct moon_task *task, enum moon_trip reason,
                    const char *kindz)
{
    if (task->state == MOON_TASK_FREE || task->cancel != MOON_TRIP_NONE ||
        task->kind == MOON_MAIN_FAIL)
        return;
    task->cancel = (uint8_t)reason;
    task->cancel_kindz = kindz;
    if (task->state == MOON_TASK_WAITING) {
        undo_pending(task);
        moon_task_enqueue(task);
    }
}

/* Tasks that a request started die with it; they forget the exchange at
 * once, for it goes first. */
static void orphan_children(struct moon_vm *vm, const struct moon_exchange *x)
{
    for (struct moon_task *task = vm->live; task != NULL; task = task->next) {
        if (task->in_request && task->x == x) {
            task->x = NULL;
            moon_task_kill(task, MOON_TRIP_CANCELLED, "cancelled");
        }
    }
}

static void end_holds(struct moon_exchange *x)
{
    if (x->session != NULL)
        moon_held_session_end(x);
    moon_limit_release(x);
}

void moon_task_end_request(struct moon_task *task)
{
    struct moon_vm *vm = task->vm;
    struct moon_exchange *x = task->x;
    if (MOON_UNLIKELY(vm->child_count > 0))
        orphan_children(vm, x);
    struct moon_slot *slot = vm->slots[task->slot - 1];
    if (MOON_UNLIKELY(vm->guest_count > 0))
        moon_vm_dismiss_guests(vm, slot);
    slot->x = NULL;
    slot->next_free = vm->free_slots;
    vm->free_slots = slot;
    vm->request_count--;
    x->task = NULL;
    if (MOON_UNLIKELY(((uintptr_t)x->session | (uintptr_t)x->limits) != 0))
        end_holds(x);
    x->ops->release(x);
}

/* ---- what Lua calls ---- */

int moon_abi_version(void)
{
    return MOON_ABI_VERSION;
}

uint32_t moon_task_current(void)
{
    return running != NULL ? running->number : 0;
}

const char *moon_task_no_yield(void)
{
    return running != NULL ? NULL : "while loading: use app:on_start";
}

static void park_timeout(uv_timer_t *timer)
{
    struct moon_task *task = timer->data;
    if (MOON_UNLIKELY(task->vm->options.probe))
        task = moon_travel_due(task);
    moon_task_wake(task, 0);
}

void moon_task_arm(struct moon_task *task, uint64_t ms)
{
    uv_update_time(task->vm->loop);
    (void)uv_timer_start(&task->timer, park_timeout, ms, 0);
}

static void undo_park(struct moon_task *task, void *data)
{
    (void)data;
    if (task->timer_open)
        (void)uv_timer_stop(&task->timer);
}

int moon_task_park(double timeout_ms, const char *what)
{
    struct moon_task *task = running;
    if (moon_task_wait(task, what, undo_park, NULL) != MOON_OK)
        return -1;
    if (task->unpark_kept || timeout_ms == 0) {
        moon_task_make_ready(task, task->unpark_kept ? 1 : 0);
        task->unpark_kept = false;
        return 0;
    }
    task->parked = true;
    if (timeout_ms > 0) {
        if (!task->timer_open) {
            (void)uv_timer_init(task->vm->loop, &task->timer);
            task->timer.data = task;
            task->timer_open = true;
            task->vm->open_handles++;
        }
        uint64_t ms = timeout_ms > 1e15 ? (uint64_t)1e15 : (uint64_t)timeout_ms;
        /* The loop counts whole milliseconds: never wake early. */
        moon_task_arm(task, ms + 1);
        if (MOON_UNLIKELY(task->vm->options.probe))
            moon_travel_note(task, timeout_ms);
    }
    return 0;
}

void moon_task_drop_wait(void)
{
    if (running == NULL)
        return;
    undo_pending(running);
    running->state = MOON_TASK_RUNNING; /* it may have been woken already */
}

int moon_task_result(void)
{
    return running != NULL ? running->result : 0;
}

bool moon_task_unpark(uint32_t number)
{
    struct moon_task *task = find(number);
    if (task == NULL)
        return false;
    if (!task->parked) {
        task->unpark_kept = true;
        return true;
    }
    undo_park(task, NULL);
    moon_task_make_ready(task, 1);
    return true;
}

uint32_t moon_task_spawn(bool in_request)
{
    struct moon_task *parent = running;
    struct moon_vm *vm = moon_vm_here();
    if (vm == NULL || vm->loop == NULL ||
        vm->detached_count + vm->child_count >= vm->options.config->max_tasks)
        return 0;
    struct moon_task *task = moon_task_acquire(vm, MOON_MAIN_CALL);
    if (task == NULL)
        return 0;
    if (in_request && parent != NULL && parent->x != NULL) {
        task->in_request = true;
        task->x = parent->x;
        task->slot = parent->slot;
        task->cpu_limit_ms = parent->cpu_limit_ms;
        vm->child_count++;
    } else {
        task->cpu_limit_ms = (uint32_t)vm->options.config->cpu_limit_ms;
        vm->detached_count++;
    }
    task->arg = task->number;
    moon_task_enqueue(task);
    return task->number;
}

bool moon_task_cancel(uint32_t number)
{
    struct moon_task *task = find(number);
    if (task == NULL || task == running)
        return false;
    moon_task_kill(task, MOON_TRIP_CANCELLED, "cancelled");
    return true;
}

void moon_task_name(void)
{
    if (running != NULL)
        running->named = true;
}

void moon_task_set_timer(bool idle)
{
    if (running != NULL)
        running->idle_timer = idle;
}
