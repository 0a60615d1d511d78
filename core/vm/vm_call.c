#include "base/log.h"
#include "base/tally.h"
#include "http/problem.h"
#include "vm/vm_internal.h"

#include <stdio.h>

/* The gate: the one place where C enters Lua.
 *
 * Each resume is one slice: bounded in CPU by the watchdog and in memory by
 * the allocator. Arguments are numbers pushed on a coroutine with room for
 * them; everything that may allocate (coroutines, tracebacks, error values)
 * runs inside moon_vm_call_protected. */

enum { DEV_FAIL_MS = 5000 };

static _Thread_local struct moon_vm *here;

struct moon_vm *moon_vm_here(void)
{
    return here;
}

void moon_vm_set_here(struct moon_vm *vm)
{
    here = vm;
}

int moon_vm_raise_memory(lua_State *L)
{
    struct moon_vm *vm = moon_vm_of(L);
    char text[80];
    moon_budget_trip(vm->L, &vm->trap, MOON_TRIP_MEMORY,
                     vm->options.config->request_memory_bytes);
    moon_budget_text(&vm->trap, text, sizeof(text));
    lua_pushstring(L, text);
    return lua_error(L);
}

struct protected_call {
    lua_CFunction fn;
    void *ud;
};

/* Takes nothing, leaves nothing. */
static int call_inside(lua_State *L)
{
    struct protected_call *call = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, call->ud);
    lua_replace(L, 1);
    (void)call->fn(L);
    return 0;
}

enum moon_err moon_vm_call_protected(struct moon_vm *vm, lua_CFunction fn,
                                     void *ud, struct moon_buf *error)
{
    struct protected_call call = {fn, ud};
    int status = lua_cpcall(vm->L, call_inside, &call);
    if (MOON_LIKELY(status == 0))
        return MOON_OK;
    if (error != NULL) {
        size_t len;
        const char *text = lua_tolstring(vm->L, -1, &len);
        moon_buf_add_str(error, text != NULL
                                    ? moon_str(text, len)
                                    : MOON_STR("(error is not a string)"));
    }
    lua_pop(vm->L, 1);
    return status == LUA_ERRMEM ? MOON_ENOMEM : MOON_ELUA;
}

/* Protected. A new coroutine, with nothing on its stack. */
static int new_coroutine(lua_State *L)
{
    struct moon_task *task = lua_touserdata(L, 1);
    struct moon_vm *vm = task->vm;
    lua_State *co = lua_newthread(L);
    luaL_checkstack(co, 16, "new task");
    task->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    task->co = co;
    task->has_co = true;
    vm->stats.coroutines++;
    return 0;
}

enum moon_err moon_vm_call_prepare(struct moon_vm *vm, struct moon_task *task)
{
    if (MOON_LIKELY(task->has_co))
        return MOON_OK;
    return moon_vm_call_protected(vm, new_coroutine, task, NULL);
}

void moon_vm_call_drop(struct moon_task *task)
{
    if (!task->has_co)
        return;
    luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->co_ref);
    task->has_co = false;
    task->vm->stats.coroutines--;
}

/* ---- failure ---- */

static const char *kind_of(const struct moon_task *task, int status,
                           enum moon_trip trip)
{
    if (trip == MOON_TRIP_CPU)
        return "cpu";
    if (trip == MOON_TRIP_MEMORY || (trip == 0 && status == LUA_ERRMEM))
        return "memory";
    if (task->cancel != MOON_TRIP_NONE)
        return task->cancel_kindz;
    return "error";
}

struct death {
    struct moon_task *task;
    const char *kindz;
};

/* Protected. Moves the error value and its traceback from the dead coroutine
 * to a new one, which becomes the task's:
 *   dead:  ... value            new:  main kind slot number kindz value trace
 */
static int bury(lua_State *L)
{
    struct death *death = lua_touserdata(L, 1);
    struct moon_task *task = death->task;
    struct moon_vm *vm = task->vm;
    lua_State *dead = task->co;
    int dead_ref = task->co_ref;
    if (lua_gettop(dead) > 0)
        lua_xmove(dead, L, 1);
    else
        lua_pushnil(L);
    if (moon_vm_is_expected(L))
        lua_pushnil(L);
    else if (!moon_vm_push_captured(L, vm, "traceback"))
        luaL_traceback(L, dead, NULL, 0);
    lua_pushlightuserdata(L, task);
    lua_replace(L, 1);
    (void)new_coroutine(L);
    /* Before anything else may raise: nobody knows that reference any more. */
    luaL_unref(L, LUA_REGISTRYINDEX, dead_ref);
    vm->stats.coroutines--;
    lua_State *co = task->co;
    lua_rawgeti(co, LUA_REGISTRYINDEX, vm->main_ref);
    lua_pushinteger(co, MOON_MAIN_FAIL);
    lua_pushinteger(co, task->in_request ? 0 : (lua_Integer)task->slot);
    lua_pushinteger(co, (lua_Integer)task->number);
    lua_pushstring(co, death->kindz);
    lua_xmove(L, co, 2);
    return 0;
}

/* Protected. Clears the context that Lua holds for a slot, so that its later
 * use raises. */
static int forget_context(lua_State *L)
{
    struct moon_task *task = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->vm->contexts_ref);
    lua_rawgeti(L, -1, (int)task->slot);
    if (lua_istable(L, -1)) {
        lua_pushnil(L);
        lua_rawseti(L, -2, 1);
    }
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawseti(L, -2, (int)task->slot);
    return 0;
}

static void answer_plain(struct moon_exchange *x)
{
    struct moon_buf body = {0};
    struct moon_str accept = MOON_STR_NONE;
    if (x->status_sent != 0) {
        if (x->state == MOON_X_STREAM)
            x->ops->stream_end(x, false);
        return;
    }
    (void)moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    x->res.status = 500;
    moon_response_drop_content(&x->res);
    struct moon_out_body out = {.file_fd = -1};
    out.content_type = moon_problem_write(500, accept, MOON_STR_NONE,
                                          MOON_STR_NONE, x->request_id, &body);
    out.bytes = moon_buf_str(&body);
    (void)x->ops->respond(x, &out);
    moon_buf_deinit(&body);
}

static void report_start(struct moon_vm *vm)
{
    moon_vm_done *done = vm->start_done;
    vm->start_done = NULL;
    if (vm->start_ok)
        vm->phase = MOON_VM_STARTED;
    done(vm->start_ctx, vm->start_ok ? MOON_OK : MOON_ELUA,
         moon_buf_str(&vm->start_text));
    moon_buf_deinit(&vm->start_text);
}

/* The failure handling failed itself, or there is no memory to run it. */
static void last_resort(struct moon_vm *vm, struct moon_task *task,
                        const char *whyz)
{
    moon_log(MOON_LOG_ERROR, "failure handling failed: %s%s%.*s", whyz,
             task->x != NULL ? ", request " : "",
             task->x != NULL ? (int)task->x->request_id.len : 0,
             task->x != NULL ? task->x->request_id.ptr : "");
    moon_vm_call_drop(task);
    if (task->x != NULL && !task->in_request) {
        if (moon_vm_call_protected(vm, forget_context, task, NULL) != MOON_OK)
            moon_log(MOON_LOG_ERROR, "a context outlives its request");
        answer_plain(task->x);
        moon_task_end_request(task);
    } else if (task->x != NULL) {
        /* The request may wait for this part of it: nobody can tell it. */
        moon_task_kill(task->x->task, MOON_TRIP_CANCELLED, "memory");
    }
    bool was_start = vm->start_done != NULL && !vm->start_reported;
    moon_task_release(task);
    if (was_start) {
        moon_buf_addz(&vm->start_text, whyz);
        vm->start_reported = true;
        report_start(vm);
    }
}

static void on_death(struct moon_vm *vm, struct moon_task *task, int status)
{
    enum moon_trip trip = (enum moon_trip)vm->trap.word;
    char text[256] = "";
    struct death death = {task, kind_of(task, status, trip)};
    moon_budget_clear(task->co, &vm->trap);
    moon_memory_begin_slice(&vm->memory,
                            vm->options.config->request_memory_bytes);
    vm->stats.errors++;
    vm->stats.cpu_stops += trip == MOON_TRIP_CPU;
    vm->stats.memory_stops += trip == MOON_TRIP_MEMORY;
    vm->stats.timeouts += trip == MOON_TRIP_TIMEOUT;
    if (trip == MOON_TRIP_MEMORY || status == LUA_ERRMEM)
        moon_vm_collect(vm);
    if (task->undo != NULL) {
        moon_task_undo *undo = task->undo;
        task->undo = NULL;
        undo(task, task->undo_data);
    }
    task->parked = false;
    if (task->kind == MOON_MAIN_FAIL) {
        const char *why = lua_tostring(task->co, -1);
        (void)snprintf(text, sizeof(text), "%s", why != NULL ? why : "?");
        last_resort(vm, task, text);
        return;
    }
    if (moon_vm_call_protected(vm, bury, &death, NULL) != MOON_OK) {
        last_resort(vm, task, "out of memory");
        moon_vm_forget_captured(vm);
        return;
    }
    task->kind = MOON_MAIN_FAIL;
    task->cancel = MOON_TRIP_NONE;
    /* A deep stack takes a while to describe. */
    if (vm->options.dev && task->cpu_limit_ms < DEV_FAIL_MS)
        task->cpu_limit_ms = DEV_FAIL_MS;
    moon_vm_call_resume(vm, task, 6);
    moon_vm_forget_captured(vm);
}

/* ---- success ---- */

static void on_done(struct moon_vm *vm, struct moon_task *task)
{
    if (task->x != NULL && !task->in_request)
        moon_task_end_request(task);
    moon_task_release(task);
    if (MOON_UNLIKELY(vm->start_done != NULL && vm->start_reported))
        report_start(vm);
}

static void on_yield(struct moon_vm *vm, struct moon_task *task)
{
    lua_settop(task->co, 0);
    if (task->x != NULL && task->x->state == MOON_X_STREAM)
        task->x->ops->stream_flush(task->x);
    if (task->state == MOON_TASK_READY) {
        moon_task_enqueue(task); /* its operation ended before the yield */
        return;
    }
    task->state = MOON_TASK_WAITING;
    if (task->undo == NULL) {
        /* A yield that no operation asked for: go on in the next turn. */
        task->result = 0;
        moon_task_enqueue(task);
    } else if (task->cancel != MOON_TRIP_NONE) {
        uint8_t reason = task->cancel;
        task->cancel = MOON_TRIP_NONE;
        moon_task_kill(task, (enum moon_trip)reason, task->cancel_kindz);
    }
    (void)vm;
}

/* The innermost line of the application, where it waits now; nothing if it has
 * come to its end. */
static void find_line(const struct moon_task *task, char *to, size_t size)
{
    lua_Debug at;
    lua_State *co = task->co;
    for (int level = 0; lua_getstack(co, level, &at) == 1; level++) {
        if (lua_getinfo(co, "Sl", &at) != 0 && at.currentline > 0 &&
            !moon_vm_is_framework(at.source)) {
            (void)snprintf(to, size, ", until %s:%d", at.short_src,
                           at.currentline);
            return;
        }
    }
}

/* Nobody else ran on this worker meanwhile: say who it was. */
static void warn_slow(const struct moon_task *task, uint64_t ms)
{
    const struct moon_exchange *x = task->x;
    char where[128] = "";
    moon_tally_add(MOON_TALLY_SLOW_SLICES, 1);
    find_line(task, where, sizeof(where));
    if (x == NULL || x->route == NULL)
        moon_log(
            MOON_LOG_WARN,
            "slow slice: %llu ms without yielding, while nobody else ran on "
            "this worker, in a task%s",
            (unsigned long long)ms, where);
    else
        moon_log(
            MOON_LOG_WARN,
            "slow slice: %llu ms without yielding, while nobody else ran on "
            "this worker: route %.*s (%.*s)%s, "
            "request %.*s",
            (unsigned long long)ms, MOON_STR_ARG(x->route->pattern),
            MOON_STR_ARG(x->route->source), where, MOON_STR_ARG(x->request_id));
}

/* For the message of a task that took too long. */
static uint64_t timeout_of(const struct moon_vm *vm,
                           const struct moon_task *task)
{
    const struct moon_route *route = task->x != NULL ? task->x->route : NULL;
    return route != NULL && route->timeout_ms != 0
               ? route->timeout_ms
               : vm->options.config->timeout_ms;
}

void moon_vm_call_resume(struct moon_vm *vm, struct moon_task *task, int nargs)
{
    lua_State *co = task->co;
    if (MOON_UNLIKELY(!task->has_co)) {
        last_resort(vm, task, "out of memory");
        return;
    }
    here = vm;
    moon_budget_clear(co, &vm->trap); /* tripped while C prepared */
    moon_task_set_running(task);
    task->state = MOON_TASK_RUNNING;
    task->wait_what = NULL;
    if (task->x != NULL)
        task->x->wait_what = NULL;
    vm->stats.slices++;
    moon_memory_begin_slice(&vm->memory,
                            vm->options.config->request_memory_bytes);
    if (MOON_UNLIKELY(task->cancel != MOON_TRIP_NONE))
        moon_budget_trip(co, &vm->trap, (enum moon_trip)task->cancel,
                         timeout_of(vm, task));
    moon_budget_enter(vm->watch, co, &vm->trap, task->cpu_limit_ms);
    int status = lua_resume(co, nargs);
    uint64_t took = moon_budget_leave(vm->watch);
    moon_task_set_running(NULL);
    if (MOON_UNLIKELY(took >= vm->options.config->slow_slice_ms))
        warn_slow(task, took);
    if (MOON_LIKELY(status == 0)) {
        moon_budget_clear(co, &vm->trap);
        lua_settop(co, 0);
        on_done(vm, task);
    } else if (status == LUA_YIELD) {
        moon_budget_clear(co, &vm->trap);
        on_yield(vm, task);
    } else {
        on_death(vm, task, status);
    }
    here = NULL;
}
