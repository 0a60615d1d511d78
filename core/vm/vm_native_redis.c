#include "vm/vm_native_redis.h"

#include "vm/vm_api_redis.h"
#include "vm/vm_internal.h"

#include <hiredis/hiredis.h>

/* Arguments that need no memory of their own. */
enum { ARGS_INLINE = 16 };

/* As everywhere in Lua, codes are those of HTTP. */
static int code_of(enum moon_err err)
{
    switch (err) {
    case MOON_ETIMEOUT:
        return 504;
    case MOON_ETOO_BIG:
        return 413;
    case MOON_EINVAL:
        return 400;
    default:
        return 503;
    }
}

/* Leaves nil, "URL: why", code. */
static int push_failure(lua_State *L, uint32_t client, enum moon_err err,
                        const char *whyz)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", moon_vm_redis_urlz(moon_vm_of(L), client),
                    whyz);
    lua_pushinteger(L, code_of(err));
    return 3;
}

/* Leaves true: the task waits; or nil, message, code. */
static int push_begun(lua_State *L, uint32_t client, enum moon_err err)
{
    const struct moon_redis_call *call = moon_redis_call_of(moon_vm_of(L));
    if (err != MOON_OK)
        return push_failure(L, client, err,
                            call == NULL || call->why[0] == '\0'
                                ? moon_err_text(err)
                                : call->why);
    lua_pushboolean(L, true);
    return 1;
}

static uint32_t number_at(lua_State *L, int index)
{
    lua_Number value = lua_tonumber(L, index);
    return value > 0 && value < UINT32_MAX ? (uint32_t)value : 0;
}

static uint64_t milliseconds_at(lua_State *L, int index)
{
    lua_Number value = lua_tonumber(L, index);
    return value > 0 && value < 1e15 ? (uint64_t)value : 0;
}

/* Room for texts that is the collector's, since what follows may raise. */
static struct moon_str *new_texts(lua_State *L, size_t count)
{
    return lua_newuserdata(L,
                           (count == 0 ? 1 : count) * sizeof(struct moon_str));
}

/* ---- clients ---- */

/* client(url, connect_timeout_ms, timeout_ms, max_pending) -> number, URL to
 * show or nil, message */
static int open_client(lua_State *L)
{
    struct moon_vm *vm = moon_vm_of(L);
    const struct moon_redis_options options = {
        .connect_timeout_ms = milliseconds_at(L, 2),
        .timeout_ms = milliseconds_at(L, 3),
        .max_pending = number_at(L, 4),
    };
    char error[MOON_VM_REDIS_TEXT];
    uint32_t number;
    if (moon_vm_redis_open(vm, luaL_checkstring(L, 1), &options, &number,
                           error) != MOON_OK) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    lua_pushnumber(L, number);
    lua_pushstring(L, moon_vm_redis_urlz(vm, number));
    return 2;
}

/* ---- commands ---- */

/* Makes text of the value at `index`, in its place; false if it has none. */
static bool make_text(lua_State *L, int index)
{
    char text[MOON_NATIVE_NUMBER];
    int type = lua_type(L, index);
    if (type == LUA_TSTRING)
        return true;
    if (type != LUA_TNUMBER)
        return false;
    size_t len = moon_native_write_number(lua_tonumber(L, index), text);
    if (len == 0)
        return false;
    lua_pushlstring(L, text, len);
    lua_replace(L, index);
    return true;
}

/* text(number) -> text or nil */
static int number_text(lua_State *L)
{
    lua_settop(L, 1);
    return make_text(L, 1) ? 1 : 0;
}

/* What the first five arguments of send and batch say. */
static struct moon_redis_call_options options_at(lua_State *L)
{
    return (struct moon_redis_call_options){
        .client = number_at(L, 1),
        .own = number_at(L, 2),
        .timeout_ms = milliseconds_at(L, 3),
        .flags = number_at(L, 4),
    };
}

/* send(client, own, timeout_ms, flags, key, name, ...) -> true: wait; false,
 * number of the argument that has no text; or nil, message, code */
static int send_command(lua_State *L)
{
    enum { FIRST = 6 };
    struct moon_vm *vm = moon_vm_of(L);
    struct moon_redis_call_options options = options_at(L);
    struct moon_str few[ARGS_INLINE], *argv = few;
    int argc = lua_gettop(L) - FIRST + 1;
    luaL_argcheck(L, argc > 0, FIRST, "no command");
    if (argc > ARGS_INLINE) {
        luaL_checkstack(L, 8, "a command");
        argv = new_texts(L, (size_t)argc);
    }
    for (int i = 0; i < argc; i++) {
        if (!make_text(L, FIRST + i)) {
            lua_pushboolean(L, false);
            lua_pushinteger(L, i);
            return 2;
        }
        argv[i].ptr = lua_tolstring(L, FIRST + i, &argv[i].len);
    }
    uint32_t key = number_at(L, 5);
    const struct moon_redis_command command = {argv, (uint32_t)argc,
                                               key < (uint32_t)argc ? key : 0};
    return push_begun(L, options.client,
                      moon_vm_redis_send(vm, &options, &command, 1));
}

/* Notes the strings of the list at the top, which keeps them alive. */
static void note_texts(lua_State *L, struct moon_str *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)(i + 1));
        to[i] = MOON_STR("");
        if (lua_type(L, -1) == LUA_TSTRING)
            to[i].ptr = lua_tolstring(L, -1, &to[i].len);
        lua_pop(L, 1);
    }
}

/* batch(client, own, timeout_ms, flags, commands) -> as send. A command is a
 * list of strings with `key`. */
static int send_batch(lua_State *L)
{
    enum { LIST = 5 };
    struct moon_redis_call_options options = options_at(L);
    luaL_checktype(L, LIST, LUA_TTABLE);
    size_t count = lua_objlen(L, LIST), texts = 0;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, LIST, (int)(i + 1));
        luaL_checktype(L, -1, LUA_TTABLE);
        texts += lua_objlen(L, -1);
        lua_pop(L, 1);
    }
    struct moon_str *argv = new_texts(L, texts);
    struct moon_redis_command *commands =
        lua_newuserdata(L, (count + 1) * sizeof(*commands));
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, LIST, (int)(i + 1));
        size_t argc = lua_objlen(L, -1);
        note_texts(L, argv, argc);
        lua_getfield(L, -1, "key");
        uint32_t key = number_at(L, -1);
        commands[i] = (struct moon_redis_command){argv, (uint32_t)argc,
                                                  key < argc ? key : 0};
        argv += argc;
        lua_pop(L, 2);
    }
    return push_begun(
        L, options.client,
        moon_vm_redis_send(moon_vm_of(L), &options, commands, (uint32_t)count));
}

/* result(client, shape) -> what the call returns: see moonshine/redis.lua */
static int result(lua_State *L)
{
    uint32_t client = number_at(L, 1);
    struct moon_redis_call *call = moon_redis_call_of(moon_vm_of(L));
    lua_settop(L, 2);
    if (call == NULL)
        return push_failure(L, client, MOON_ECLOSED, "nothing was asked");
    if (call->reply == NULL)
        return call->err == MOON_OK
                   ? 0
                   : push_failure(L, client, call->err, call->why);
    /* What raises here leaves the answer with the task, which frees it. */
    int count = 4;
    if (call->err == MOON_OK) {
        count = moon_native_push_reply(L, call->reply, 2);
    } else {
        (void)push_failure(L, client, call->err, call->why);
        moon_native_push_inner(L, call->reply, 2);
    }
    moon_redis_reply_free(call->reply);
    call->reply = NULL;
    return count;
}

/* ---- scripts ---- */

/* script(client, source) -> number or nil, message */
static int prepare(lua_State *L)
{
    char error[MOON_VM_REDIS_TEXT];
    uint32_t number;
    struct moon_str source;
    source.ptr = luaL_checklstring(L, 2, &source.len);
    if (moon_vm_redis_prepare(moon_vm_of(L), number_at(L, 1), source, &number,
                              error) != MOON_OK) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    lua_pushnumber(L, number);
    return 1;
}

/* eval(client, script, keys, args) -> as send; both are lists of strings */
static int eval(lua_State *L)
{
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    size_t keys = lua_objlen(L, 3), args = lua_objlen(L, 4);
    struct moon_str *argv = new_texts(L, keys + args);
    lua_pushvalue(L, 3);
    note_texts(L, argv, keys);
    lua_pushvalue(L, 4);
    note_texts(L, argv + keys, args);
    return push_begun(L, number_at(L, 1),
                      moon_vm_redis_eval(moon_vm_of(L), number_at(L, 2), argv,
                                         (uint32_t)keys, (uint32_t)args));
}

/* ---- links of one's own ---- */

/* take(client, key) -> number: wait, then ask for the result; or nil, message,
 * code */
static int take(lua_State *L)
{
    uint32_t number;
    struct moon_str key;
    key.ptr = luaL_checklstring(L, 2, &key.len);
    enum moon_err err =
        moon_vm_redis_take(moon_vm_of(L), number_at(L, 1), key, &number);
    if (err != MOON_OK)
        return push_begun(L, number_at(L, 1), err);
    lua_pushnumber(L, number);
    return 1;
}

/* give(number, keep) */
static int give(lua_State *L)
{
    moon_vm_redis_give(moon_vm_of(L), number_at(L, 1), lua_toboolean(L, 2));
    return 0;
}

/* ---- subscriptions ---- */

/* subscribe(client, names, are patterns, queue) -> number or nil, message,
 * code */
static int subscribe(lua_State *L)
{
    char error[MOON_VM_REDIS_TEXT];
    uint32_t number;
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t count = lua_objlen(L, 2);
    luaL_argcheck(L, count > 0, 2, "no channel");
    struct moon_str *names = new_texts(L, count);
    lua_pushvalue(L, 2);
    note_texts(L, names, count);
    const struct moon_vm_sub_options options = {
        .client = number_at(L, 1),
        .patterns = lua_toboolean(L, 3),
        .names = names,
        .count = (uint32_t)count,
        .queue_max = number_at(L, 4),
    };
    enum moon_err err =
        moon_vm_redis_subscribe(moon_vm_of(L), &options, &number, error);
    if (err != MOON_OK)
        return push_failure(L, options.client, err, error);
    lua_pushnumber(L, number);
    return 1;
}

/* next(number) -> payload, channel; true: wait, then ask again; or nil: no
 * more */
static int next_message(lua_State *L)
{
    const struct moon_vm_message *message = NULL;
    enum moon_err err =
        moon_vm_redis_next(moon_vm_of(L), number_at(L, 1), &message);
    if (err == MOON_EAGAIN) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (err != MOON_OK)
        return 0;
    lua_pushlstring(L, message->payload.ptr, message->payload.len);
    lua_pushlstring(L, message->channel.ptr, message->channel.len);
    return 2;
}

/* confirmed(number) -> true; false: not yet; or why it was refused */
static int confirmed(lua_State *L)
{
    const char *whyz = "";
    enum moon_err err =
        moon_vm_redis_confirmed(moon_vm_of(L), number_at(L, 1), &whyz);
    if (err == MOON_EDENIED)
        lua_pushstring(L, whyz);
    else
        lua_pushboolean(L, err == MOON_OK);
    return 1;
}

/* unsubscribe(number) */
static int unsubscribe(lua_State *L)
{
    moon_vm_redis_unsubscribe(moon_vm_of(L), number_at(L, 1));
    return 0;
}

/* forget(number) */
static int forget(lua_State *L)
{
    moon_vm_redis_forget(moon_vm_of(L), number_at(L, 1));
    return 0;
}

/* dropped(number) -> how many messages */
static int dropped(lua_State *L)
{
    lua_pushnumber(
        L, (lua_Number)moon_vm_redis_dropped(moon_vm_of(L), number_at(L, 1)));
    return 1;
}

void moon_native_open_redis(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"client", open_client},  {"text", number_text},
        {"send", send_command},   {"batch", send_batch},
        {"result", result},       {"script", prepare},
        {"eval", eval},           {"take", take},
        {"give", give},           {"subscribe", subscribe},
        {"next", next_message},   {"unsubscribe", unsubscribe},
        {"forget", forget},       {"dropped", dropped},
        {"confirmed", confirmed}, {NULL, NULL},
    };
    lua_createtable(L, 0, 16);
    for (const luaL_Reg *at = functions; at->name != NULL; at++) {
        lua_pushcfunction(L, at->func);
        lua_setfield(L, -2, at->name);
    }
    lua_setfield(L, -2, "redis");
}
