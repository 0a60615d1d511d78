#include "vm/json.h"

#include <lauxlib.h>

/* A buffer that grew beyond this is given back after the call. */
#define KEEP_BYTES (64 * 1024)

/* Its address is the key of the array mark in the registry. */
static char array_mark_key;

void moon_json_push_array_mark(lua_State *L)
{
    lua_pushlightuserdata(L, &array_mark_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (MOON_LIKELY(!lua_isnil(L, -1)))
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "json.array");
    lua_setfield(L, -2, "__name");
    lua_pushlightuserdata(L, &array_mark_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

const void *moon_json_array_mark(lua_State *L)
{
    lua_pushlightuserdata(L, &array_mark_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    const void *mark = lua_topointer(L, -1);
    lua_pop(L, 1);
    return mark;
}

/* decode(text): value, or nil, message, 400 */
static int decode(lua_State *L)
{
    char error[MOON_JSON_ERROR_SIZE];
    struct moon_str text;
    luaL_checktype(L, 1, LUA_TSTRING);
    text.ptr = lua_tolstring(L, 1, &text.len);
    lua_settop(L, 1);
    if (moon_json_decode(L, text, error, sizeof(error)) == MOON_OK)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, error);
    lua_pushinteger(L, 400);
    return 3;
}

/* encode(value): text; raises for a value that has no JSON form.
 * Upvalue 1 is the buffer, owned by Lua because pushing the text may raise. */
static int encode(lua_State *L)
{
    char error[MOON_JSON_ERROR_SIZE];
    struct moon_buf *buf = lua_touserdata(L, lua_upvalueindex(1));
    luaL_checkany(L, 1);
    moon_buf_clear(buf);
    if (moon_json_encode(L, 1, buf, error, sizeof(error)) != MOON_OK) {
        moon_buf_deinit(buf);
        return luaL_error(L, "%s", error);
    }
    lua_pushlstring(L, buf->ptr, buf->len);
    if (buf->cap > KEEP_BYTES)
        moon_buf_deinit(buf);
    return 1;
}

/* array([t]): t, marked */
static int array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_createtable(L, 0, 0);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    moon_json_push_array_mark(L);
    if (lua_getmetatable(L, 1)) {
        luaL_argcheck(L, lua_rawequal(L, -1, 2), 1,
                      "the table has another metatable");
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* is_array(value): true if it carries the mark */
static int is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    bool marked = lua_istable(L, 1) && lua_getmetatable(L, 1) != 0 &&
                  lua_topointer(L, -1) == moon_json_array_mark(L);
    lua_pushboolean(L, marked);
    return 1;
}

static int free_buffer(lua_State *L)
{
    moon_buf_deinit(lua_touserdata(L, 1));
    return 0;
}

static void push_buffer(lua_State *L, lua_Number max_kib)
{
    struct moon_buf *buf = lua_newuserdata(L, sizeof(*buf));
    *buf = (struct moon_buf){.max_kib = (uint32_t)max_kib};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_buffer);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
}

int moon_json_open(lua_State *L)
{
    lua_Number max_kib = luaL_optnumber(L, 1, 0);
    /* Made now, so that no later look-up has to allocate. */
    moon_json_push_array_mark(L);
    lua_createtable(L, 0, 5);
    push_buffer(L, max_kib);
    lua_pushcclosure(L, encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, decode);
    lua_setfield(L, -2, "decode");
    lua_pushcfunction(L, array);
    lua_setfield(L, -2, "array");
    lua_pushcfunction(L, is_array);
    lua_setfield(L, -2, "is_array");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
