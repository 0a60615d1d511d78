#include "vm/vm.h"

#include "base/log.h"
#include "state/commons.h"
#include "vm/abi.h"
#include "vm/coverage.h"
#include "vm/safepoint.h"
#include "vm/stack_guard.h"
#include "vm/vm_internal.h"
#include "vm/vm_native.h"

#include <stdlib.h>
#include <lualib.h>

/* Reserve between the soft cap, where Lua code is stopped, and the hard one,
 * where memory ends: unwinding and logging need some. */
enum { SOFT_PERCENT = 75, REBUILD_PERCENT = 90 };

static const char registry_key = 0; /* its address names the VM */

struct moon_vm *moon_vm_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&registry_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct moon_vm *vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return vm;
}

/* ---- creation: all of this runs protected, on any thread ---- */

static int panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    moon_log(MOON_LOG_ERROR, "Lua error outside the gate: %s",
             text != NULL ? text : "?");
    abort();
}

static void on_memory_trip(void *ud, size_t limit)
{
    struct moon_vm *vm = ud;
    moon_budget_trip(vm->L, &vm->trap, MOON_TRIP_MEMORY, limit);
}

/* A userdata whose finalizer runs at the end of each collector cycle: what is
 * used then is what the application really holds. Leaves nothing. */
static int cycle_ended(lua_State *L);

static void arm_cycle_watch(lua_State *L)
{
    (void)lua_newuserdata(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, cycle_ended);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static int cycle_ended(lua_State *L)
{
    struct moon_vm *vm = moon_vm_of(L);
    if (vm == NULL || vm->phase >= MOON_VM_CLOSING)
        return 0;
    vm->used_after_cycle = vm->memory.used;
    moon_memory_pace(&vm->memory, L);
    arm_cycle_watch(L);
    return 0;
}

/* package.preload of one framework module: the name is its argument. */
static int load_framework(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *dir = getenv("MOONSHINE_LUA");
    for (size_t i = 0; i < moon_embedded_lua_count; i++) {
        const struct moon_embedded *file = &moon_embedded_lua[i];
        if (strcmp(file->namez, name) != 0)
            continue;
        int status;
        if (dir != NULL && *dir != '\0') {
            const char *path = lua_pushfstring(L, "%s/%s", dir, file->pathz);
            status = luaL_loadfile(L, path);
        } else {
            const char *chunk = lua_pushfstring(L, "=%s", file->pathz);
            status = luaL_loadbuffer(L, file->bytes, file->len, chunk);
        }
        if (status != 0)
            return lua_error(L);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        return 1;
    }
    return luaL_error(L, "no framework module '%s'", name);
}

bool moon_vm_is_framework(const char *sourcez)
{
    struct moon_str source = moon_strz(sourcez);
    const char *dir = getenv("MOONSHINE_LUA");
    if (dir == NULL || *dir == '\0')
        return moon_str_starts(source, MOON_STR("=moonshine/")) ||
               moon_str_starts(source, MOON_STR("=[moonshine "));
    return source.ptr[0] == '@' &&
           moon_str_starts(moon_str(source.ptr + 1, source.len - 1),
                           moon_strz(dir));
}

void moon_vm_open_framework(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (size_t i = 0; i < moon_embedded_lua_count; i++) {
        lua_pushcfunction(L, load_framework);
        lua_setfield(L, -2, moon_embedded_lua[i].namez);
    }
    lua_pushcfunction(L, moon_native_open);
    lua_setfield(L, -2, "moonshine.native");
    lua_pop(L, 2);

    lua_getglobal(L, "require");
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "cdef");
    lua_pushstring(L, moon_embedded_cdef);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

/* For the tests: a collector that hardly rests finds what is not anchored. Not
 * at all is for the interpreter alone: a trace that begins with an allocation
 * leaves at its check of the collector, and would never get on. */
static void stress_gc(lua_State *L)
{
    const char *on = getenv("MOONSHINE_GC_STRESS");
    const char *jit = getenv("MOONSHINE_JIT");
    bool interpreted = jit != NULL && strcmp(jit, "off") == 0;
    if (on == NULL || *on == '\0')
        return;
    (void)lua_gc(L, LUA_GCSETPAUSE, interpreted ? 0 : 101);
    (void)lua_gc(L, LUA_GCSETSTEPMUL, 100000);
}

/* Protected. Opens libraries, framework and application; vm->main_ref and
 * contexts_ref are set. */
static int load_all(lua_State *L)
{
    struct moon_vm *vm = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&registry_key);
    lua_pushlightuserdata(L, vm);
    lua_rawset(L, LUA_REGISTRYINDEX);
    luaL_openlibs(L);
    stress_gc(L);
    moon_budget_install(L, &vm->trap);
    if (moon_coverage_is_on())
        moon_coverage_open(L, &vm->trap, vm->options.files,
                           vm->options.generation);
    moon_safepoint_open(L);
    moon_stack_guard_open(L);
    lua_pushboolean(L, false);
    vm->captured_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    moon_vm_open_framework(L);
    arm_cycle_watch(L);

    lua_getglobal(L, "require");
    lua_pushliteral(L, "moonshine.boot");
    lua_call(L, 1, 1);
    int boot = lua_gettop(L);
    lua_getfield(L, boot, "main");
    vm->main_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, boot, "contexts");
    vm->contexts_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, boot, "explain");
    int handler = lua_gettop(L);
    lua_getfield(L, boot, "load");
    lua_pushstring(L, vm->options.app_filez);
    if (lua_pcall(L, 1, 0, handler) != 0)
        return lua_error(L);
    return 0;
}

struct moon_vm *moon_vm_create(const struct moon_vm_options *options,
                               struct moon_buf *error)
{
    struct moon_vm *vm = calloc(1, sizeof(*vm));
    if (vm == NULL || moon_app_init(&vm->app) != MOON_OK) {
        free(vm);
        moon_buf_addz(error, "out of memory");
        return NULL;
    }
    uint64_t hard = options->config->memory_limit_bytes;
    vm->options = *options;
    moon_limit_set_init(&vm->limits, options->commons != NULL
                                         ? options->commons->limits
                                         : NULL);
    moon_memory_init(&vm->memory, (size_t)(hard / 100 * SOFT_PERCENT),
                     (size_t)hard);
    vm->L = lua_newstate(moon_memory_alloc, &vm->memory);
    if (vm->L == NULL) {
        moon_buf_addz(error, "out of memory");
        moon_vm_destroy(vm);
        return NULL;
    }
    vm->memory.on_trip = on_memory_trip;
    vm->memory.on_trip_ud = vm;
    (void)lua_atpanic(vm->L, panic);

    moon_vm_set_here(vm);
    moon_stack_guard_here();
    moon_memory_begin_slice(&vm->memory, SIZE_MAX);
    if (options->watch != NULL)
        moon_budget_enter(options->watch, vm->L, &vm->trap,
                          (uint32_t)options->config->load_timeout_ms);
    enum moon_err err = moon_vm_call_protected(vm, load_all, vm, error);
    if (options->watch != NULL)
        moon_budget_leave(options->watch);
    moon_budget_clear(vm->L, &vm->trap);
    moon_vm_set_here(NULL);
    vm->options.watch = NULL;
    if (err != MOON_OK) {
        moon_vm_destroy(vm);
        return NULL;
    }
    moon_app_seal(&vm->app);
    vm->phase = MOON_VM_LOADED;
    return vm;
}

void moon_vm_destroy(struct moon_vm *vm)
{
    if (vm->phase < MOON_VM_CLOSING)
        vm->phase = MOON_VM_CLOSING;
    moon_vm_set_here(vm);
    if (vm->L != NULL)
        lua_close(vm->L);
    moon_vm_set_here(NULL);
    moon_vm_release_metrics(vm);
    for (uint32_t i = 0; i < vm->task_count; i++) {
        free(vm->tasks[i]->redis);
        free(vm->tasks[i]);
    }
    free(vm->tasks);
    for (uint32_t i = 0; i < vm->slot_count; i++)
        free(vm->slots[i]);
    free(vm->slots);
    while (vm->outside != NULL) {
        struct moon_vm_file *file = vm->outside;
        vm->outside = file->next;
        free(file);
    }
    moon_buf_deinit(&vm->start_text);
    moon_app_deinit(&vm->app);
    moon_limit_set_deinit(&vm->limits);
    moon_vm_redis_deinit(vm);
    free(vm);
}

/* ---- life on a loop ---- */

enum moon_err moon_vm_attach(struct moon_vm *vm, uv_loop_t *loop,
                             struct moon_watch *watch)
{
    if (uv_idle_init(loop, &vm->ready_handle) != 0)
        return MOON_ESYS;
    (void)uv_idle_init(loop, &vm->collect_handle);
    vm->ready_handle.data = vm->collect_handle.data = vm;
    vm->open_handles = 2;
    vm->loop = loop;
    vm->watch = watch;
    const struct moon_vm_options *o = &vm->options;
    if (!o->probe && o->commons != NULL && o->commons->news != NULL)
        moon_limit_set_connect(&vm->limits, loop, o->config, o->nodez,
                               o->commons->news, o->worker_id == 1);
    moon_stack_guard_here();
    return MOON_OK;
}

/* Queues a task that runs one of boot's jobs. */
static enum moon_err queue_boot(struct moon_vm *vm, uint32_t what)
{
    struct moon_task *task = moon_task_acquire(vm, MOON_MAIN_BOOT);
    if (task == NULL)
        return MOON_ENOMEM;
    task->arg = what;
    task->cpu_limit_ms = (uint32_t)vm->options.config->load_timeout_ms;
    vm->detached_count++;
    moon_task_enqueue(task);
    return MOON_OK;
}

void moon_vm_start(struct moon_vm *vm, bool with_checks, moon_vm_done *done,
                   void *ctx)
{
    vm->start_done = done;
    vm->start_ctx = ctx;
    if (queue_boot(vm, with_checks ? 2 : 1) != MOON_OK) {
        vm->start_done = NULL;
        done(ctx, MOON_ENOMEM, MOON_STR("out of memory"));
    }
}

void moon_vm_started(bool ok, const char *text, size_t len)
{
    struct moon_vm *vm = moon_vm_here();
    if (vm == NULL || vm->start_done == NULL || vm->start_reported)
        return;
    vm->start_reported = true;
    vm->start_ok = ok;
    moon_buf_add(&vm->start_text, text, len);
}

enum moon_err moon_vm_run_spec(struct moon_vm *vm)
{
    return queue_boot(vm, 5);
}

void moon_vm_activate(struct moon_vm *vm)
{
    moon_vm_redis_activate(vm);
    if (queue_boot(vm, 4) != MOON_OK)
        moon_log(MOON_LOG_ERROR, "timers not started: out of memory");
}

void moon_vm_retire(struct moon_vm *vm)
{
    if (vm->phase >= MOON_VM_RETIRED)
        return;
    bool started = vm->phase == MOON_VM_STARTED;
    vm->phase = MOON_VM_RETIRED;
    if (vm->loop == NULL) {
        moon_vm_maybe_idle(vm);
        return;
    }
    for (struct moon_task *task = vm->live; task != NULL; task = task->next) {
        if (task->idle_timer)
            moon_task_kill(task, MOON_TRIP_CANCELLED, "retired");
    }
    moon_vm_redis_retire(vm);
    if (!started || queue_boot(vm, 3) != MOON_OK)
        moon_vm_maybe_idle(vm);
}

void moon_vm_cancel_tasks(struct moon_vm *vm, bool all)
{
    for (struct moon_task *task = vm->live; task != NULL; task = task->next) {
        if (all || (task->x == NULL && !task->in_request))
            moon_task_kill(task, MOON_TRIP_CANCELLED, "stop");
    }
}

uint32_t moon_vm_detached_tasks(const struct moon_vm *vm)
{
    return vm->detached_count;
}

uint32_t moon_vm_requests(const struct moon_vm *vm)
{
    return vm->request_count;
}

bool moon_vm_is_idle(const struct moon_vm *vm)
{
    return vm->phase == MOON_VM_IDLE ||
           (vm->loop == NULL && vm->live_count == 0);
}

void moon_vm_on_idle(struct moon_vm *vm, void (*idle)(void *ctx), void *ctx)
{
    vm->idle_cb = idle;
    vm->idle_ctx = ctx;
    moon_vm_maybe_idle(vm);
}

/* The VM's own two stay open until it closes: before that none is the last. */
void moon_vm_handle_gone(struct moon_vm *vm)
{
    vm->open_handles--;
    if (vm->open_handles > 0)
        return;
    vm->phase = MOON_VM_IDLE;
    vm->idle_cb(vm->idle_ctx);
}

static void handle_closed(uv_handle_t *handle)
{
    /* The task's handle holds its task, the queue's holds the VM. */
    moon_vm_handle_gone(handle->type == UV_TIMER
                            ? ((struct moon_task *)handle->data)->vm
                            : (struct moon_vm *)handle->data);
}

void moon_vm_maybe_idle(struct moon_vm *vm)
{
    if (vm->phase != MOON_VM_RETIRED || vm->live_count > 0 ||
        vm->idle_cb == NULL)
        return;
    vm->phase = MOON_VM_CLOSING;
    if (vm->loop == NULL) {
        vm->phase = MOON_VM_IDLE;
        vm->idle_cb(vm->idle_ctx);
        return;
    }
    moon_limit_set_disconnect(&vm->limits);
    moon_vm_redis_release(vm);
    for (uint32_t i = 0; i < vm->task_count; i++) {
        struct moon_task *task = vm->tasks[i];
        if (task->timer_open)
            uv_close((uv_handle_t *)&task->timer, handle_closed);
    }
    uv_close((uv_handle_t *)&vm->ready_handle, handle_closed);
    uv_close((uv_handle_t *)&vm->collect_handle, handle_closed);
}

/* ---- requests ---- */

static struct moon_slot *take_slot(struct moon_vm *vm)
{
    struct moon_slot *slot = vm->free_slots;
    if (MOON_LIKELY(slot != NULL)) {
        vm->free_slots = slot->next_free;
        return slot;
    }
    if (vm->slot_count == vm->slot_cap) {
        uint32_t cap = vm->slot_cap == 0 ? 16 : vm->slot_cap * 2;
        struct moon_slot **grown =
            realloc(vm->slots, cap * sizeof(vm->slots[0]));
        if (grown == NULL)
            return NULL;
        vm->slots = grown;
        vm->slot_cap = cap;
    }
    slot = calloc(1, sizeof(*slot));
    if (slot == NULL)
        return NULL;
    slot->number = vm->slot_count + 1;
    vm->slots[vm->slot_count++] = slot;
    return slot;
}

moon_slot *moon_slot_get(uint32_t slot)
{
    struct moon_vm *vm = moon_vm_here();
    return vm != NULL && slot - 1 < vm->slot_count ? vm->slots[slot - 1] : NULL;
}

/* For what a chain alone cannot do: wait before, keep errors for a page. */
MOON_COLD static void enter_main(struct moon_vm *vm, struct moon_task *task,
                                 int chain)
{
    lua_State *co = task->co;
    uint64_t delay_ns = task->x->delay_ns;
    lua_rawgeti(co, LUA_REGISTRYINDEX, vm->main_ref);
    lua_pushinteger(co, delay_ns > 0 ? MOON_MAIN_SERVE_LATE : MOON_MAIN_SERVE);
    lua_pushinteger(co, (lua_Integer)task->slot);
    lua_pushinteger(co, chain);
    lua_pushnumber(co, (lua_Number)delay_ns / 1e9);
    moon_vm_call_resume(vm, task, 4);
}

void moon_vm_run(struct moon_vm *vm, struct moon_exchange *x, int chain)
{
    struct moon_slot *slot = take_slot(vm);
    struct moon_task *task =
        slot != NULL ? moon_task_acquire(vm, MOON_MAIN_SERVE) : NULL;
    if (task == NULL) {
        if (slot != NULL) {
            slot->next_free = vm->free_slots;
            vm->free_slots = slot;
        }
        moon_log(MOON_LOG_ERROR, "request not started: out of memory");
        x->ops->release(x);
        return;
    }
    vm->request_count++;
    slot->x = x;
    x->task = task;
    task->x = x;
    task->slot = slot->number;
    task->cpu_limit_ms = x->route != NULL && x->route->cpu_limit_ms != 0
                             ? x->route->cpu_limit_ms
                             : (uint32_t)vm->options.config->cpu_limit_ms;
    if (moon_vm_call_prepare(vm, task) != MOON_OK) {
        moon_vm_call_resume(vm, task, 0);
        return;
    }
    if (MOON_UNLIKELY(x->delay_ns > 0 || vm->options.dev)) {
        enter_main(vm, task, chain);
        return;
    }
    /* Nothing of Lua is below the chain: its traces end where it returns. */
    lua_rawgeti(task->co, LUA_REGISTRYINDEX, chain);
    lua_pushinteger(task->co, (lua_Integer)slot->number);
    moon_vm_call_resume(vm, task, 1);
}

void moon_vm_cancel(struct moon_exchange *x, enum moon_cancel_reason why)
{
    static const char *const kinds[] = {"timeout", "disconnect", "stop"};
    struct moon_task *task = x->task;
    if (task == NULL)
        return;
    struct moon_vm *vm = task->vm;
    enum moon_trip trip =
        why == MOON_CANCEL_TIMEOUT ? MOON_TRIP_TIMEOUT : MOON_TRIP_CANCELLED;
    if (vm->child_count > 0) {
        for (struct moon_task *child = vm->live; child; child = child->next) {
            if (child->in_request && child->x == x)
                moon_task_kill(child, trip, kinds[why]);
        }
    }
    moon_task_kill(task, trip, kinds[why]);
}

const char *moon_vm_check_socket(void)
{
    const struct moon_vm *vm = moon_vm_here();
    return vm != NULL ? vm->options.check_socketz : NULL;
}

bool moon_vm_stopping(void)
{
    const struct moon_vm *vm = moon_vm_here();
    return vm != NULL && vm->phase >= MOON_VM_RETIRED;
}

/* ---- what others ask ---- */

const struct moon_app *moon_vm_app(const struct moon_vm *vm)
{
    return &vm->app;
}

struct moon_limit_set *moon_vm_limits(struct moon_vm *vm)
{
    return &vm->limits;
}

struct moon_app *moon_vm_app_loading(struct moon_vm *vm)
{
    return vm->phase == MOON_VM_LOADING ? &vm->app : NULL;
}

uint64_t moon_vm_generation(const struct moon_vm *vm)
{
    return vm->options.generation;
}

const struct moon_vm_options *moon_vm_get_options(const struct moon_vm *vm)
{
    return &vm->options;
}

/* LuaJIT goes on after an allocation failed, but not always as if nothing had
 * been: routes were seen that never ended again. */
static const char *why_rebuild(const struct moon_vm *vm)
{
    if (vm->memory.starved)
        return "was refused memory by the system";
    if (vm->used_after_cycle > vm->memory.soft_limit / 100 * REBUILD_PERCENT)
        return "is full";
    return NULL;
}

void moon_vm_get_stats(const struct moon_vm *vm, struct moon_vm_stats *out)
{
    *out = vm->stats;
    out->used_bytes = vm->memory.used;
    out->peak_bytes = vm->memory.peak;
    out->limit_bytes = vm->memory.soft_limit;
    out->tasks = vm->live_count;
    out->refs = (uint32_t)lua_objlen(vm->L, LUA_REGISTRYINDEX);
    out->wants_rebuild = why_rebuild(vm);
}
