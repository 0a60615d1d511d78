/* One Lua state for all inputs of a target. Its memory is not malloc's: what it
 * keeps from one input to the next would look like a leak each time, and the
 * search for leaks take longer than all else. */
#ifndef MOON_TESTS_FUZZ_LUA_STATE_H
#define MOON_TESTS_FUZZ_LUA_STATE_H

#include "fuzz.h"

#include <lauxlib.h>
#include <lualib.h>

static MOON_UNUSED lua_State *lua_state_create(void)
{
    lua_State *L = luaL_newstate();
    FUZZ_CHECK(L != NULL);
    luaL_openlibs(L);
    return L;
}

#endif
