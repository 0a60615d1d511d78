#include "vm/vm_native_redis.h"

#include "vm/json.h"
#include "vm/json_number.h"

#include <hiredis/hiredis.h>
#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The largest integer up to which a double has all of them. */
#define EXACT_MAX 9007199254740992LL

enum { CODE_ERROR = 502 };

size_t moon_native_write_number(double value, char to[MOON_NATIVE_NUMBER])
{
    if (isnan(value))
        return 0;
    if (isinf(value)) {
        memcpy(to, value > 0 ? "+inf" : "-inf", 4);
        return 4;
    }
    if (value == floor(value) && fabs(value) < 1e18)
        return (size_t)snprintf(to, MOON_NATIVE_NUMBER, "%lld",
                                (long long)value);
    return moon_json_number_write(value, to);
}

static void push_integer(lua_State *L, long long value)
{
    char text[24];
    if (value <= EXACT_MAX && value >= -EXACT_MAX) {
        lua_pushnumber(L, (lua_Number)value);
        return;
    }
    int len = snprintf(text, sizeof(text), "%lld", value);
    lua_pushlstring(L, text, (size_t)len);
}

static void push_pairs(lua_State *L, const struct redisReply *reply)
{
    lua_createtable(L, 0, (int)(reply->elements / 2));
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        moon_native_push_inner(L, reply->element[i], 0);
        moon_native_push_inner(L, reply->element[i + 1], 0);
        lua_rawset(L, -3);
    }
}

/* Leaves the `map` of the i-th command; false if these are not several. */
static bool push_shape(lua_State *L, int shape, size_t i)
{
    if (shape == 0 || !lua_istable(L, shape))
        return false;
    lua_rawgeti(L, shape, (int)i);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "map");
        lua_remove(L, -2);
    }
    return true;
}

static void push_list(lua_State *L, const struct redisReply *reply, int shape)
{
    lua_createtable(L, (int)reply->elements, 0);
    for (size_t i = 0; i < reply->elements; i++) {
        bool shaped = push_shape(L, shape, i + 1);
        moon_native_push_inner(L, reply->element[i],
                               shaped ? lua_gettop(L) : 0);
        if (shaped)
            lua_remove(L, -2);
        lua_rawseti(L, -2, (int)(i + 1));
    }
    moon_json_push_array_mark(L);
    lua_setmetatable(L, -2);
}

static bool is_map(lua_State *L, const struct redisReply *reply, int shape)
{
    return shape != 0 && lua_type(L, shape) == LUA_TBOOLEAN &&
           lua_toboolean(L, shape) && reply->elements % 2 == 0;
}

/* Replies nest seven levels at most (state/redis_proto.h). */
void moon_native_push_inner(lua_State *L, const struct redisReply *reply,
                            int shape)
{
    luaL_checkstack(L, 8, "a reply of Redis");
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        push_integer(L, reply->integer);
        break;
    case REDIS_REPLY_ARRAY:
        if (is_map(L, reply, shape))
            push_pairs(L, reply);
        else
            push_list(L, reply, shape);
        break;
    case REDIS_REPLY_NIL:
        lua_pushboolean(L, false);
        break;
    case REDIS_REPLY_ERROR:
        lua_createtable(L, 0, 1);
        lua_pushlstring(L, reply->str, (size_t)reply->len);
        lua_setfield(L, -2, "err");
        break;
    default:
        lua_pushlstring(L, reply->str, (size_t)reply->len);
        break;
    }
}

int moon_native_push_reply(lua_State *L, const struct redisReply *reply,
                           int shape)
{
    if (reply->type == REDIS_REPLY_NIL) {
        lua_pushnil(L);
        return 1;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        lua_pushnil(L);
        lua_pushlstring(L, reply->str, (size_t)reply->len);
        lua_pushinteger(L, CODE_ERROR);
        return 3;
    }
    moon_native_push_inner(L, reply, shape);
    return 1;
}
