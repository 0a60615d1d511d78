#include "vm/stack_guard.h"

#include "base/compiler.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>

/* Some 120 levels of gsub. The smallest stack that a thread gets is 2 MiB. */
#define DEPTH_BYTES ((uintptr_t)1 << 20)

static _Thread_local uintptr_t base;

void moon_stack_guard_here(void)
{
    base = (uintptr_t)__builtin_frame_address(0);
}

/* Upvalue 1 is the original, which has none of its own. */
static int guarded(lua_State *L)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (MOON_UNLIKELY(base > here && base - here > DEPTH_BYTES))
        return luaL_error(L, "C stack overflow: callbacks of string.gsub or "
                             "table.sort within each other");
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static void guard(lua_State *L, const char *library, const char *name)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, guarded, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void moon_stack_guard_open(lua_State *L)
{
    guard(L, "string", "gsub");
    guard(L, "table", "sort");
}
