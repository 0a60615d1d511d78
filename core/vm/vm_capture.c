#include "vm/vm_internal.h"

/* --dev: what was on the stack when an error was raised. Afterwards it is too
 * late: the frames are gone, or (of a coroutine that died) do not know their
 * line any more. Only references are kept; describing the values is left to
 * the failure handling, which runs under limits of its own. */

enum { LEVELS_MAX = 60, LOCALS_MAX = 100, VARARGS_MAX = 10 };

bool moon_vm_is_expected(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_pushliteral(L, "expected");
    lua_rawget(L, -2);
    bool expected = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return expected;
}

static void set_string(lua_State *L, const char *namez, const char *valuez)
{
    lua_pushstring(L, valuez);
    lua_setfield(L, -2, namez);
}

static void set_integer(lua_State *L, const char *namez, int value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, namez);
}

/* One local of the frame `at`, as names[*count] and values[*count]; the two
 * lists are on top of the stack. False if there is none of that number. */
static bool add_local(lua_State *L, lua_Debug *at, int number, int *count)
{
    const char *namez = lua_getlocal(L, at, number);
    if (namez == NULL)
        return false;
    ++*count;
    lua_rawseti(L, -2, *count);
    lua_pushstring(L, namez);
    lua_rawseti(L, -3, *count);
    return true;
}

/* Adds fields to the frame on top of the stack. */
static void add_locals(lua_State *L, lua_Debug *at)
{
    int count = 0;
    lua_createtable(L, 8, 0); /* names */
    lua_createtable(L, 8, 0); /* values */
    for (int i = 1; i <= LOCALS_MAX && add_local(L, at, i, &count); i++)
        continue;
    for (int i = 1; i <= VARARGS_MAX && add_local(L, at, -i, &count); i++)
        continue;
    lua_setfield(L, -3, "values");
    lua_setfield(L, -2, "names");
    set_integer(L, "count", count);
}

/* Stack: function of `at`. Leaves the frame in its place. */
static void make_frame(lua_State *L, lua_Debug *at)
{
    lua_createtable(L, 0, 11);
    lua_insert(L, -2);
    lua_setfield(L, -2, "func");
    set_string(L, "source", at->source);
    set_string(L, "short_src", at->short_src);
    set_string(L, "what", at->what);
    set_string(L, "name", at->name);
    set_string(L, "namewhat", at->namewhat);
    set_integer(L, "currentline", at->currentline);
    set_integer(L, "linedefined", at->linedefined);
    add_locals(L, at);
}

static void add_frames(lua_State *L)
{
    lua_Debug at;
    int count = 0;
    for (int level = 1; level < LEVELS_MAX && lua_getstack(L, level, &at);
         level++) {
        if (lua_getinfo(L, "nSlf", &at) == 0)
            continue;
        if (at.currentline <= 0) {
            lua_pop(L, 1);
            continue;
        }
        make_frame(L, &at);
        lua_rawseti(L, -2, ++count);
    }
}

int moon_vm_capture(lua_State *L)
{
    struct moon_vm *vm = moon_vm_of(L);
    lua_settop(L, 1);
    if (moon_vm_is_expected(L))
        return 1;
    lua_createtable(L, 16, 1);
    luaL_traceback(L, L, NULL, 1);
    lua_setfield(L, 2, "traceback");
    /* Not if what the frames hold is why there is no memory left. */
    if (vm->memory.used < vm->memory.soft_limit)
        add_frames(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, vm->captured_ref);
    return 1;
}

bool moon_vm_push_captured(lua_State *L, const struct moon_vm *vm,
                           const char *fieldz)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->captured_ref);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (fieldz != NULL) {
        lua_getfield(L, -1, fieldz);
        lua_remove(L, -2);
    }
    return true;
}

void moon_vm_forget_captured(struct moon_vm *vm)
{
    lua_pushboolean(vm->L, false);
    lua_rawseti(vm->L, LUA_REGISTRYINDEX, vm->captured_ref);
}
