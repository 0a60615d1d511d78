/* The trap of a VM: the word, the hook, and the error that both raise. */
#include "vm/budget.h"

#include "base/str.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOOK_MASK (LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT)
#define OWN_CHUNKS "=[moonshine "
#define CHECK_CHUNK OWN_CHUNKS "safepoint]"
#define FRAMEWORK "moonshine/"

/* Its address keys the trap in the registry. */
static const char trap_key;

static struct moon_trap *find_trap(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&trap_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct moon_trap *trap = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return trap;
}

void moon_budget_text(const struct moon_trap *trap, char *text, size_t size)
{
    switch ((enum moon_trip)trap->word) {
    case MOON_TRIP_CPU:
        (void)snprintf(text, size, "cpu limit of %" PRIu64 " ms exceeded",
                       trap->limit);
        return;
    case MOON_TRIP_MEMORY:
        (void)snprintf(text, size, "memory limit of %" PRIu64 " %s exceeded",
                       trap->limit >> (trap->limit >= 1 << 20 ? 20 : 10),
                       trap->limit >= 1 << 20 ? "MiB" : "KiB");
        return;
    case MOON_TRIP_TIMEOUT:
        (void)snprintf(text, size, "timeout of %" PRIu64 " ms exceeded",
                       trap->limit);
        return;
    case MOON_TRIP_CANCELLED:
        (void)snprintf(text, size, "cancelled");
        return;
    case MOON_TRIP_NONE:
        break;
    }
    (void)snprintf(text, size, "not exceeded");
}

static bool starts(const char *textz, const char *prefixz)
{
    return strncmp(textz, prefixz, strlen(prefixz)) == 0;
}

/* Is it a file of the framework, from the program or from MOONSHINE_LUA? */
static bool is_framework(const char *sourcez)
{
    const char *dirz = getenv("MOONSHINE_LUA");
    if (sourcez[0] == '@' && dirz != NULL && starts(sourcez + 1, dirz))
        return starts(sourcez + 1 + strlen(dirz), "/" FRAMEWORK);
    return starts(sourcez, "=" FRAMEWORK);
}

/* Names the innermost line of Lua code that is not our own; of the framework
 * only if there is no other. */
static void find_where(lua_State *L, char *where, size_t size)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (lua_getinfo(L, "Sl", &ar) == 0 || ar.currentline <= 0 ||
            starts(ar.source, OWN_CHUNKS))
            continue;
        bool framework = is_framework(ar.source);
        if (!framework || where[0] == '\0')
            (void)snprintf(where, size, "%s:%d", ar.short_src, ar.currentline);
        if (!framework)
            return;
    }
}

/* Raises. Every raise names the place of the first: later ones are where
 * some pcall went on, which helps nobody. */
static int raise(lua_State *L, struct moon_trap *trap)
{
    char text[80];
    if (trap->where[0] == '\0')
        find_where(L, trap->where, sizeof(trap->where));
    moon_budget_text(trap, text, sizeof(text));
    if (trap->where[0] == '\0')
        lua_pushstring(L, text);
    else
        lua_pushfstring(L, "%s: %s", trap->where, text);
    return lua_error(L);
}

static void hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    struct moon_trap *trap = find_trap(L);
    if (trap != NULL && trap->word != MOON_TRIP_NONE)
        (void)raise(L, trap);
}

/* A signal may have interrupted LuaJIT while it was switching its dispatch
 * table for other reasons; going through "no hook" makes it switch anew. */
static void set_hook(lua_State *L)
{
    lua_sethook(L, NULL, 0, 0);
    lua_sethook(L, hook, HOOK_MASK, 1);
}

void moon_budget_trip(lua_State *L, struct moon_trap *trap,
                      enum moon_trip reason, uint64_t limit)
{
    if (trap->word == MOON_TRIP_NONE) {
        trap->limit = limit;
        trap->where[0] = '\0';
        trap->word = (int32_t)reason;
    }
    set_hook(L);
}

void moon_budget_clear_slow(lua_State *L, struct moon_trap *trap)
{
    lua_sethook(L, NULL, 0, 0);
    trap->word = MOON_TRIP_NONE;
    trap->where[0] = '\0';
    if (trap->rest != NULL)
        lua_sethook(L, trap->rest, LUA_MASKLINE, 0);
}

void moon_budget_set_rest(lua_State *L, struct moon_trap *trap,
                          void (*rest)(lua_State *, lua_Debug *))
{
    trap->rest = rest;
    if (trap->word == MOON_TRIP_NONE)
        lua_sethook(L, rest, LUA_MASKLINE, 0);
}

/* Called by a safepoint that found the word set. */
static int lua_tripped(lua_State *L)
{
    struct moon_trap *trap = find_trap(L);
    if (trap == NULL || trap->word == MOON_TRIP_NONE)
        return 0;
    set_hook(L);
    return raise(L, trap);
}

static const char check_source[] =
    "local address, tripped = ...\n"
    "local word = require('ffi').cast('volatile int32_t *', address)\n"
    "function string.__moon_check()\n"
    "    if word[0] ~= 0 then tripped() end\n"
    "end\n";

void moon_budget_install(lua_State *L, struct moon_trap *trap)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&trap_key);
    lua_pushlightuserdata(L, trap);
    lua_rawset(L, LUA_REGISTRYINDEX);
    if (luaL_loadbuffer(L, check_source, sizeof(check_source) - 1,
                        CHECK_CHUNK) != 0)
        lua_error(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&trap->word);
    lua_pushcfunction(L, lua_tripped);
    lua_call(L, 2, 0);
}
