/* One Lua state for all inputs of a target. Its memory is not malloc's: what it
 * keeps from one input to the next would look like a leak each time, and the
 * search for leaks take longer than all else. */
#ifndef MOON_TESTS_FUZZ_LUA_STATE_H
#define MOON_TESTS_FUZZ_LUA_STATE_H

#include "fuzz.h"

#include <lauxlib.h>
#include <lualib.h>

enum { LUA_STATE_BLOCK = 1 << 20 };

static lua_Alloc lua_state_alloc;

/* No block is larger, so that text that doubles ends with an error, at the same
 * size each time, instead of the memory. */
static void *lua_state_capped(void *ctx, void *at, size_t had, size_t size)
{
    return size > LUA_STATE_BLOCK && size > had
               ? NULL
               : lua_state_alloc(ctx, at, had, size);
}

static MOON_UNUSED lua_State *lua_state_create(void)
{
    void *ctx;
    lua_State *L = luaL_newstate();
    FUZZ_CHECK(L != NULL);
    luaL_openlibs(L);
    lua_state_alloc = lua_getallocf(L, &ctx);
    lua_setallocf(L, lua_state_capped, ctx);
    return L;
}

#endif
