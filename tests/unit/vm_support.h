/* A small VM under budget for the tests of core/vm: what the gate does, without
 * HTTP. One VM at a time per test thread; a failed step ends the test. */
#ifndef MOON_TESTS_VM_SUPPORT_H
#define MOON_TESTS_VM_SUPPORT_H

#include "vm/budget.h"
#include "vm/memory.h"
#include "vm/safepoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct vm {
    lua_State *L;
    struct moon_memory memory;
    struct moon_trap trap;
    struct moon_watch *watch; /* borrowed; NULL: nobody watches */
    bool plain;               /* load without instrumentation */
    char message[512];        /* of the last run */
    double ran_ms;            /* CPU of the last run */
};

static inline void vm_on_memory(void *ud, size_t limit)
{
    struct vm *vm = ud;
    moon_budget_trip(vm->L, &vm->trap, MOON_TRIP_MEMORY, limit);
}

static inline int vm_set_up(lua_State *L)
{
    struct vm *vm = lua_touserdata(L, 1);
    luaL_openlibs(L);
    moon_budget_install(L, &vm->trap);
    moon_safepoint_open(L);
    return 0;
}

static inline void vm_create(struct vm *vm, struct moon_watch *watch, bool jit,
                             size_t soft, size_t hard)
{
    memset(vm, 0, sizeof(*vm));
    vm->watch = watch;
    moon_memory_init(&vm->memory, soft, hard);
    vm->L = lua_newstate(moon_memory_alloc, &vm->memory);
    assert_non_null(vm->L);
    assert_int_equal(lua_cpcall(vm->L, vm_set_up, vm), 0);
    vm->memory.on_trip = vm_on_memory;
    vm->memory.on_trip_ud = vm;
    if (!jit)
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
}

static inline void vm_destroy(struct vm *vm)
{
    vm->memory.on_trip = NULL;
    lua_close(vm->L);
    assert_int_equal(vm->memory.used, 0);
}

static inline double vm_cpu_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static inline int vm_load(struct vm *vm, lua_State *L, const char *source)
{
    if (vm->plain)
        return luaL_loadbuffer(L, source, strlen(source), "@test.lua");
    return moon_safepoint_load(L, moon_strz(source), "@test.lua", NULL);
}

/* Loads and runs `source` in a new coroutine as one slice. Returns the Lua
 * status; message is the error, or the text of the last result. */
static inline int vm_run(struct vm *vm, const char *source, uint32_t limit_ms,
                         size_t allowance)
{
    lua_settop(vm->L, 0);
    lua_State *co = lua_newthread(vm->L);
    vm->message[0] = '\0';
    int status = vm_load(vm, co, source);
    if (status == 0) {
        moon_memory_begin_slice(&vm->memory, allowance);
        double start = vm_cpu_ms();
        if (vm->watch != NULL)
            moon_budget_enter(vm->watch, co, &vm->trap, limit_ms);
        status = lua_resume(co, 0);
        if (vm->watch != NULL)
            moon_budget_leave(vm->watch);
        vm->ran_ms = vm_cpu_ms() - start;
        moon_budget_clear(vm->L, &vm->trap);
        moon_memory_begin_slice(&vm->memory, SIZE_MAX);
    }
    if (lua_gettop(co) > 0 && lua_isstring(co, -1))
        (void)snprintf(vm->message, sizeof(vm->message), "%s",
                       lua_tostring(co, -1));
    lua_settop(vm->L, 0);
    return status == LUA_YIELD ? 0 : status;
}

#endif
