#include "vm/vm_native.h"

#include "http/router.h"
#include "vm/dev_report.h"
#include "vm/json.h"
#include "vm/safepoint.h"
#include "vm/vm_api.h"
#include "vm/vm_internal.h"
#include "vm/vm_native_redis.h"
#include "vm/vm_test.h"

#include <stdlib.h>

/* A response buffer bigger than this is given back after use. */
enum { JSON_KEEP = 64 << 10 };

/* What one request may use, for the bytes that C makes for it. */
static uint32_t buffer_max_kib(lua_State *L)
{
    uint64_t kib = moon_vm_of(L)->options.config->request_memory_bytes >> 10;
    return kib > UINT32_MAX ? 0 : (uint32_t)kib;
}

/* ---- JSON ---- */

static _Thread_local struct moon_buf json_out;

/* send_json(slot, status, value, [type]) -> error code, [text]. The value is
 * encoded straight into what the connection copies. */
static int send_json(lua_State *L)
{
    moon_slot *slot = moon_slot_get((uint32_t)lua_tointeger(L, 1));
    int status = (int)lua_tointeger(L, 2);
    char error[MOON_JSON_ERROR_SIZE];
    moon_buf_clear(&json_out);
    json_out.max_kib = buffer_max_kib(L);
    enum moon_err err =
        moon_json_encode_lossy(L, 3, &json_out, error, sizeof error);
    int code = MOON_ENOMEM;
    if (err == MOON_EINVAL) {
        lua_pushinteger(L, MOON_EINVAL);
        lua_pushstring(L, error);
        return 2;
    }
    if (err == MOON_OK)
        code = moon_res_send(slot, status, json_out.ptr, json_out.len,
                             "application/json", 16);
    if (json_out.cap > JSON_KEEP || json_out.failed)
        moon_buf_deinit(&json_out);
    if (err != MOON_OK)
        return moon_vm_raise_memory(L);
    lua_pushinteger(L, code);
    return 1;
}

/* ---- code and files ---- */

/* read_file(name) -> text or nil */
static int read_file(lua_State *L)
{
    struct moon_str name, bytes;
    name.ptr = luaL_checklstring(L, 1, &name.len);
    if (!moon_vm_find_file(moon_vm_of(L), name, &bytes))
        return 0;
    lua_pushlstring(L, bytes.ptr, bytes.len);
    return 1;
}

/* list_files(prefix) -> sorted names of the archive's files that begin so */
static int list_files(lua_State *L)
{
    const struct moon_archive *files = moon_vm_of(L)->options.files;
    struct moon_str prefix;
    prefix.ptr = luaL_checklstring(L, 1, &prefix.len);
    lua_createtable(L, 0, 0);
    int count = 0;
    for (size_t i = 0; i < moon_archive_count(files); i++) {
        struct moon_str name, bytes;
        moon_archive_entry(files, i, &name, &bytes);
        if (!moon_str_starts(name, prefix))
            continue;
        lua_pushlstring(L, name.ptr, name.len);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

/* captured() -> what was on the stack of the failure that is being handled, or
 * nil. It holds all that the failed code held, so nobody may keep it. */
static int captured(lua_State *L)
{
    return moon_vm_push_captured(L, moon_vm_of(L), NULL) ? 1 : 0;
}

/* encode_lossy(value) -> text; for people, so a bad byte is no error */
static int encode_lossy(lua_State *L)
{
    char error[MOON_JSON_ERROR_SIZE];
    moon_buf_clear(&json_out);
    json_out.max_kib = buffer_max_kib(L);
    enum moon_err err =
        moon_json_encode_lossy(L, 1, &json_out, error, sizeof error);
    if (err == MOON_EINVAL)
        return luaL_error(L, "%s", error);
    if (err != MOON_OK)
        return moon_vm_raise_memory(L);
    lua_pushlstring(L, json_out.ptr, json_out.len);
    if (json_out.cap > JSON_KEEP || json_out.failed)
        moon_buf_deinit(&json_out);
    return 1;
}

/* report(facts as JSON): of a failure to load or to start */
static int report(lua_State *L)
{
    struct moon_buf *to = moon_vm_of(L)->options.report;
    struct moon_str text;
    text.ptr = luaL_checklstring(L, 1, &text.len);
    if (to != NULL) {
        moon_buf_clear(to);
        moon_buf_add_str(to, text);
    }
    return 0;
}

/* load(text, chunk name) -> function, fell_back or nil, message */
static int load_source(lua_State *L)
{
    struct moon_str text;
    text.ptr = luaL_checklstring(L, 1, &text.len);
    const char *namez = luaL_checkstring(L, 2);
    bool fell_back = false;
    if (moon_safepoint_load(L, text, namez, &fell_back) != 0) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, fell_back);
    return 2;
}

/* load_plain(text, chunk name) -> function; for the framework's own text, which
 * needs no counters. */
static int load_plain(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (luaL_loadbuffer(L, text, len, luaL_checkstring(L, 2)) != 0)
        return lua_error(L);
    return 1;
}

/* Leaves {name = bytes} of the configured dictionaries. */
static void push_shared(lua_State *L, const struct moon_config *config)
{
    lua_createtable(L, 0, (int)config->shared.count);
    for (uint32_t i = 0; i < config->shared.count; i++) {
        lua_pushnumber(L, (lua_Number)config->shared.items[i].bytes);
        lua_setfield(L, -2, config->shared.items[i].namez);
    }
}

/* Leaves what the session's cookie is like. */
static void push_session(lua_State *L, const struct moon_config *config)
{
    static const char *const same_sites[] = {
        [MOON_SAME_SITE_LAX] = "lax",
        [MOON_SAME_SITE_STRICT] = "strict",
        [MOON_SAME_SITE_NONE] = "none",
    };
    static const char *const secures[] = {
        [MOON_SECURE_AUTO] = "auto",
        [MOON_SECURE_ON] = "on",
        [MOON_SECURE_OFF] = "off",
    };
    lua_createtable(L, 0, 4);
    lua_pushstring(L, config->session_cookie_namez);
    lua_setfield(L, -2, "cookie_name");
    lua_pushstring(L, config->session_cookie_domainz);
    lua_setfield(L, -2, "cookie_domain");
    lua_pushstring(L, same_sites[config->session_cookie_same_site]);
    lua_setfield(L, -2, "same_site");
    lua_pushstring(L, secures[config->session_cookie_secure]);
    lua_setfield(L, -2, "cookie_secure");
}

/* Sets "test" in the table at the top. */
static void push_test(lua_State *L, const struct moon_vm_test *test)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, test->filez);
    lua_setfield(L, -2, "file");
    lua_pushstring(L, test->filterz); /* nil for NULL */
    lua_setfield(L, -2, "filter");
    lua_pushnumber(L, (lua_Number)test->limit_ms / 1000);
    lua_setfield(L, -2, "limit");
    lua_setfield(L, -2, "test");
}

/* Leaves what config.lua says of Redis; times in seconds. */
static void push_redis(lua_State *L, const struct moon_config *config)
{
    lua_createtable(L, 0, 4);
    lua_pushstring(L, config->redis_urlz);
    lua_setfield(L, -2, "url");
    lua_pushstring(L, config->cluster_urlz);
    lua_setfield(L, -2, "cluster_url");
    lua_pushnumber(L, (lua_Number)config->redis_connect_timeout_ms / 1000);
    lua_setfield(L, -2, "connect_timeout");
    lua_pushnumber(L, (lua_Number)config->redis_timeout_ms / 1000);
    lua_setfield(L, -2, "timeout");
}

/* info() -> what the framework may know about its VM */
static int info(lua_State *L)
{
    const struct moon_vm_options *options = moon_vm_get_options(moon_vm_of(L));
    lua_createtable(L, 0, 12);
    lua_pushstring(L, options->app_dirz);
    lua_setfield(L, -2, "app_dir");
    lua_pushstring(L, options->nodez != NULL ? options->nodez : "");
    lua_setfield(L, -2, "node");
    lua_pushnumber(L, (lua_Number)options->generation);
    lua_setfield(L, -2, "generation");
    lua_pushinteger(L, (lua_Integer)options->worker_id);
    lua_setfield(L, -2, "worker_id");
    lua_pushinteger(L, (lua_Integer)options->worker_count);
    lua_setfield(L, -2, "worker_count");
    lua_pushboolean(L, options->dev);
    lua_setfield(L, -2, "dev");
    lua_pushboolean(L, options->probe);
    lua_setfield(L, -2, "probe");
    lua_pushboolean(L, options->report != NULL);
    lua_setfield(L, -2, "report");
    lua_pushinteger(L, (lua_Integer)options->config->max_args);
    lua_setfield(L, -2, "max_args");
    lua_pushstring(L, options->config->app_jsonz);
    lua_setfield(L, -2, "config_json");
    push_session(L, options->config);
    lua_setfield(L, -2, "session");
    push_shared(L, options->config);
    lua_setfield(L, -2, "shared");
    push_redis(L, options->config);
    lua_setfield(L, -2, "redis");
    lua_pushliteral(L, MOON_VERSION);
    lua_setfield(L, -2, "version");
    if (options->test != NULL)
        push_test(L, options->test);
    return 1;
}

/* ---- links ---- */

/* The stack index of the parameters, and where to make them text. */
struct params {
    lua_State *L;
    int index;
};

static bool get_param(void *ctx, struct moon_str name, struct moon_str *value)
{
    struct params *params = ctx;
    lua_State *L = params->L;
    lua_pushlstring(L, name.ptr, name.len);
    lua_rawget(L, params->index);
    if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
        return false;
    /* Stays on the stack, so that the text lives until the end. */
    value->ptr = lua_tolstring(L, -1, &value->len);
    return true;
}

/* url(pattern, params) -> path or nil, message */
static int url(lua_State *L)
{
    struct moon_str pattern;
    pattern.ptr = luaL_checklstring(L, 1, &pattern.len);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checkstack(L, 2 * MOON_PARAMS_MAX, "url");
    struct params params = {L, 2};
    struct moon_buf out = {0};
    char error[160] = "";
    enum moon_err err =
        moon_router_url(pattern, get_param, &params, &out, error, sizeof error);
    if (err != MOON_OK || out.failed) {
        lua_pushnil(L);
        lua_pushstring(L, err != MOON_OK ? error : "out of memory");
        moon_buf_deinit(&out);
        return 2;
    }
    /* luaL_Buffer would raise with `out` in hand; a string push too, but only
     * when Lua is out of memory, which ends the request anyway. */
    lua_pushlstring(L, out.ptr, out.len);
    moon_buf_deinit(&out);
    return 1;
}

int moon_native_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"send_json", send_json},
        {"read_file", read_file},
        {"list_files", list_files},
        {"capture", moon_vm_capture},
        {"captured", captured},
        {"encode_lossy", encode_lossy},
        {"report", report},
        {"load", load_source},
        {"info", info},
        {"load_plain", load_plain},
        {"url", url},
        {NULL, NULL},
    };
    moon_api_request_keep();
    moon_api_form_keep();
    moon_api_limit_keep();
    moon_api_session_keep();
    moon_api_shared_keep();
    moon_api_response_keep();
    moon_api_stream_keep();
    moon_api_log_keep();
    moon_api_negotiate_keep();
    moon_api_test_keep();
    moon_api_util_keep();
    moon_api_metrics_keep();
    moon_api_password_keep();
    if (!moon_api_crypto_keep())
        return luaL_error(L, "libsodium does not start");
    lua_createtable(L, 0, 16);
    for (const luaL_Reg *at = functions; at->name != NULL; at++) {
        lua_pushcfunction(L, at->func);
        lua_setfield(L, -2, at->name);
    }
    lua_pushcfunction(L, moon_json_open);
    lua_pushnumber(L, buffer_max_kib(L));
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "json");
    lua_pushstring(L, moon_dev_policy);
    lua_setfield(L, -2, "dev_policy");
    moon_native_open_app(L);
    moon_native_open_limit(L);
    moon_native_open_redis(L);
    return 1;
}
