#include "vm/vm_native.h"

#include "http/app.h"
#include "vm/quarantine_gate.h"
#include "vm/vm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Everything here reads tables that the framework has checked; a wrong type
 * reads as unset. Text is copied into the app's arena, which a raise leaves
 * sound. */

static struct moon_app *loading(lua_State *L)
{
    struct moon_app *app = moon_vm_app_loading(moon_vm_of(L));
    if (app == NULL)
        luaL_error(L, "routes are fixed once the app is loaded");
    return app;
}

static struct moon_str keep_text(lua_State *L, struct moon_app *app, int index)
{
    struct moon_str text = MOON_STR_NONE;
    if (lua_type(L, index) != LUA_TSTRING)
        return text;
    text.ptr = lua_tolstring(L, index, &text.len);
    text = moon_arena_copy(&app->arena, text);
    if (text.ptr == NULL)
        luaL_error(L, "out of memory");
    return text;
}

static struct moon_str text_field(lua_State *L, struct moon_app *app, int table,
                                  const char *name)
{
    lua_getfield(L, table, name);
    struct moon_str text = keep_text(L, app, -1);
    lua_pop(L, 1);
    return text;
}

static double number_field(lua_State *L, int table, const char *name,
                           double unset)
{
    lua_getfield(L, table, name);
    double value = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : unset;
    lua_pop(L, 1);
    return value;
}

static bool bool_field(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static struct moon_strs list_field(lua_State *L, struct moon_app *app,
                                   int table, const char *name)
{
    struct moon_strs list = {NULL, 0};
    lua_getfield(L, table, name);
    if (lua_type(L, -1) != LUA_TTABLE) {
        lua_pop(L, 1);
        return list;
    }
    int at = lua_gettop(L);
    size_t count = lua_objlen(L, at);
    list.items = moon_arena_alloc(&app->arena, (count == 0 ? 1 : count) *
                                                   sizeof(*list.items));
    if (list.items == NULL) {
        luaL_error(L, "out of memory");
        return list; /* not reached */
    }
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, at, (int)i + 1);
        list.items[list.count++] = keep_text(L, app, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return list;
}

/* ---- routes ---- */

/* The route's directory, if it has one. */
static enum moon_err open_dir(lua_State *L, struct moon_route *route, int table,
                              char *error, size_t error_size)
{
    lua_getfield(L, table, "dir");
    const char *dir = lua_tostring(L, -1);
    if (dir != NULL) {
        route->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (route->dir_fd < 0)
            (void)snprintf(error, error_size, "cannot open %s: %s", dir,
                           strerror(errno));
    }
    bool opened = dir == NULL || route->dir_fd >= 0;
    lua_pop(L, 1);
    return opened ? MOON_OK : MOON_ESYS;
}

/* Which limits hold before Lua is entered. */
static void fill_limits(lua_State *L, struct moon_route *route, int table)
{
    lua_getfield(L, table, "limits");
    int at = lua_gettop(L);
    size_t count = lua_istable(L, at) ? lua_objlen(L, at) : 0;
    for (size_t i = 0; i < count && i < MOON_ROUTE_LIMITS; i++) {
        lua_rawgeti(L, at, (int)i + 1);
        route->limits[route->limit_count++] = (uint16_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void fill_guards(lua_State *L, struct moon_route *route, int table)
{
    const struct moon_vm *vm = moon_vm_of(L);
    struct moon_quarantine_rule rule;
    route->quarantine =
        (enum moon_quarantine_mode)(int)number_field(L, table, "quarantine", 0);
    route->quarantine_failures =
        (uint32_t)number_field(L, table, "quarantine_failures", 0);
    route->quarantine_retry_ms =
        (uint64_t)number_field(L, table, "quarantine_retry_ms", 0);
    route->guarded = route->limit_count > 0 ||
                     moon_quarantine_rule_of(route, vm->options.config, &rule);
}

static void fill_route(lua_State *L, struct moon_app *app,
                       struct moon_route *route, int table)
{
    route->scope = (int)number_field(L, table, "scope", 0);
    route->chain = (int)number_field(L, table, "chain", MOON_NO_CHAIN);
    route->pattern = text_field(L, app, table, "pattern");
    route->name = text_field(L, app, table, "name");
    route->source = text_field(L, app, table, "source");
    route->methods = text_field(L, app, table, "methods");
    route->middleware = text_field(L, app, table, "middleware");
    route->chain_places = text_field(L, app, table, "chain_places");
    route->timeout_ms = (uint64_t)number_field(L, table, "timeout_ms", 0);
    route->stream_timeout_ms =
        (uint64_t)number_field(L, table, "stream_timeout_ms", 0);
    double limit = number_field(L, table, "body_limit", -1);
    if (limit >= 0)
        route->body_limit_bytes = (uint64_t)limit;
    route->cpu_limit_ms = (uint32_t)number_field(L, table, "cpu_limit_ms", 0);
    route->body_mode =
        (enum moon_body_mode)(int)number_field(L, table, "body_mode", 0);
    route->cancel_on_disconnect = bool_field(L, table, "cancel_on_disconnect");
    fill_limits(L, route, table);
    fill_guards(L, route, table);
    route->index = text_field(L, app, table, "index");
    route->fallback = text_field(L, app, table, "fallback");
    route->cache_control = text_field(L, app, table, "cache_control");
}

/* add_route{...} -> id; or nil, message, id of the route that is there */
static int add_route(lua_State *L)
{
    struct moon_app *app = loading(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    int id;
    struct moon_route *route = moon_app_add_route(app, &id);
    if (route == NULL)
        return luaL_error(L, "out of memory");
    fill_route(L, app, route, 1);
    char error[200] = "";
    int other = MOON_NO_ROUTE;
    enum moon_err err = open_dir(L, route, 1, error, sizeof(error));
    if (err == MOON_OK)
        err = moon_router_add(app->router,
                              (uint32_t)number_field(L, 1, "method_bits", 0),
                              bool_field(L, 1, "any"), route->pattern, id,
                              &other, error, sizeof(error));
    if (err == MOON_OK) {
        lua_pushinteger(L, id);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, err == MOON_EEXISTS ? "exists" : error);
    lua_pushinteger(L, err == MOON_EEXISTS ? other : MOON_NO_ROUTE);
    return 3;
}

/* add_chain(function) -> its number, which C calls it by */
static int add_chain(lua_State *L)
{
    (void)loading(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushinteger(L, luaL_ref(L, LUA_REGISTRYINDEX));
    return 1;
}

/* ---- scopes ---- */

/* add_scope(parent, prefix) -> id */
static int add_scope(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_str prefix;
    int parent = (int)luaL_checkinteger(L, 1);
    prefix.ptr = luaL_checklstring(L, 2, &prefix.len);
    int id;
    if (moon_app_add_scope(app, parent, prefix, &id) == NULL)
        return luaL_error(L, "out of memory");
    lua_pushinteger(L, id);
    return 1;
}

/* The scope of argument 1, with argument 2 checked to be a table. */
static struct moon_scope *scope_of(lua_State *L, struct moon_app *app)
{
    lua_Integer id = luaL_checkinteger(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (id < 0 || id >= (lua_Integer)app->scope_count)
        luaL_error(L, "no scope %d", (int)id);
    return &app->scopes[id];
}

static int set_cors(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_cors *cors = &scope_of(L, app)->cors;
    cors->set = true;
    cors->credentials = bool_field(L, 2, "credentials");
    cors->any_origin = bool_field(L, 2, "any_origin");
    cors->origins = list_field(L, app, 2, "origins");
    cors->methods = text_field(L, app, 2, "methods");
    cors->headers = text_field(L, app, 2, "headers");
    cors->max_age_s = (int64_t)number_field(L, 2, "max_age", -1);
    cors->skip = list_field(L, app, 2, "skip");
    return 0;
}

static int set_security_headers(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_security_headers *security = &scope_of(L, app)->security;
    security->set = true;
    security->csp = text_field(L, app, 2, "csp");
    security->hsts = text_field(L, app, 2, "hsts");
    security->frame = text_field(L, app, 2, "frame");
    security->skip = list_field(L, app, 2, "skip");
    return 0;
}

static int set_access_log(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_access_log *log = &scope_of(L, app)->access_log;
    log->set = true;
    log->off = bool_field(L, 2, "off");
    log->skip = list_field(L, app, 2, "skip");
    return 0;
}

static int set_request_id(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_request_id *id = &scope_of(L, app)->request_id;
    id->set = true;
    id->off = bool_field(L, 2, "off");
    id->header = text_field(L, app, 2, "header");
    id->skip = list_field(L, app, 2, "skip");
    return 0;
}

/* set_hooks(scope, {{status, chain or body and content_type}, ...}) */
static int set_hooks(lua_State *L)
{
    struct moon_app *app = loading(L);
    struct moon_scope *scope = scope_of(L, app);
    size_t count = lua_objlen(L, 2);
    if (count == 0)
        return 0;
    struct moon_status_hook *hooks =
        moon_arena_alloc(&app->arena, count * sizeof *hooks);
    if (hooks == NULL)
        return luaL_error(L, "out of memory");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        int at = lua_gettop(L);
        hooks[i] = (struct moon_status_hook){
            .status = (int)number_field(L, at, "status", 0),
            .chain = (int)number_field(L, at, "chain", MOON_NO_CHAIN),
            .body = text_field(L, app, at, "body"),
            .content_type = text_field(L, app, at, "content_type"),
        };
        lua_pop(L, 1);
    }
    scope->hooks = hooks;
    scope->hook_count = (uint32_t)count;
    return 0;
}

/* set_app{strict_slash, error_chain, generation_header} */
static int set_app(lua_State *L)
{
    struct moon_app *app = loading(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    app->strict_slash = bool_field(L, 1, "strict_slash");
    app->error_chain = (int)number_field(L, 1, "error_chain", MOON_NO_CHAIN);
    app->generation_header = bool_field(L, 1, "generation_header");
    return 0;
}

void moon_native_open_app(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"add_route", add_route},
        {"add_chain", add_chain},
        {"add_scope", add_scope},
        {"set_cors", set_cors},
        {"set_security_headers", set_security_headers},
        {"set_access_log", set_access_log},
        {"set_request_id", set_request_id},
        {"set_hooks", set_hooks},
        {"set_app", set_app},
        {NULL, NULL},
    };
    for (const luaL_Reg *at = functions; at->name != NULL; at++) {
        lua_pushcfunction(L, at->func);
        lua_setfield(L, -2, at->name);
    }
}
