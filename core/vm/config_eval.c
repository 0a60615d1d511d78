#include "vm/config_eval.h"

#include "base/clock.h"
#include "vm/json.h"
#include "vm/memory.h"

#include <lauxlib.h>
#include <lualib.h>
#include <luajit.h>
#include <stdio.h>

#define TIME_LIMIT_MS 1000
#define MEMORY_LIMIT ((size_t)64 << 20)
#define MAX_DEPTH 8

/* Everything that must be freed hangs here, outside the protected call. */
struct eval {
    struct moon_config *config;
    struct moon_str text;
    const char *namez;
    struct moon_memory memory;
    struct moon_buf value, key;
    uint64_t deadline_ms;
    char errorz[1024]; /* why it failed, if Lua did not say */
    enum moon_err err;
};

static const char self_key;

static struct eval *eval_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&self_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct eval *eval = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return eval;
}

/* Once time is up, every instruction raises again, so that a pcall in a loop
 * cannot go on. Interpreted code only, which is all there is here. */
static void watch_clock(lua_State *L, lua_Debug *unused)
{
    (void)unused;
    struct eval *eval = eval_of(L);
    if (moon_clock_ms() < eval->deadline_ms)
        return;
    (void)lua_sethook(L, watch_clock, LUA_MASKCOUNT, 1);
    luaL_where(L, 0); /* in a hook that is the function it stopped */
    lua_pushfstring(L, "took longer than %d s", TIME_LIMIT_MS / 1000);
    lua_concat(L, 2);
    (void)lua_error(L);
}

/* env(name): the variable, or the contents of the file NAME_FILE names. */
static int lua_env(lua_State *L)
{
    struct eval *eval = eval_of(L);
    char errorz[512];
    const char *namez = luaL_checkstring(L, 1);
    moon_buf_clear(&eval->value);
    enum moon_err err =
        moon_config_env(namez, &eval->value, errorz, sizeof(errorz));
    if (err == MOON_ENOT_FOUND)
        lua_pushnil(L);
    else if (err != MOON_OK)
        return luaL_error(L, "%s", errorz);
    else
        lua_pushlstring(L, eval->value.ptr == NULL ? "" : eval->value.ptr,
                        eval->value.len);
    return 1;
}

/* Takes nothing, leaves nothing; may raise. What reads files, loads other code
 * or changes a function's environment is taken away again. */
static void open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {"", luaopen_base},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_MATHLIBNAME, luaopen_math},
    };
    static const char *const removed[] = {
        "dofile", "loadfile", "load",    "loadstring",     "require",
        "module", "getfenv",  "setfenv", "collectgarbage", "newproxy",
        "print",  "gcinfo",   "package", "coroutine",
    };
    for (size_t i = 0; i < MOON_COUNT(libraries); i++) {
        lua_pushcfunction(L, libraries[i].func);
        lua_pushstring(L, libraries[i].name);
        lua_call(L, 1, 0);
    }
    for (size_t i = 0; i < MOON_COUNT(removed); i++) {
        lua_pushnil(L);
        lua_setglobal(L, removed[i]);
    }
    lua_getglobal(L, "string");
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pop(L, 1);
    lua_pushcfunction(L, lua_env);
    lua_setglobal(L, "env");
}

/* ---- from tables to keys ---- */

static bool is_word(char ch)
{
    return ch == '_' || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
           (ch >= '0' && ch <= '9');
}

/* The line that sets `key` (its last part, followed by one "="), 0 if there is
 * none or more than one. Lua keeps no lines for values; this is right for
 * files as people write them. */
static unsigned find_line(struct moon_str text, struct moon_str key)
{
    unsigned line = 1, found = 0;
    for (size_t i = 0; i + key.len < text.len; i++) {
        if (text.ptr[i] == '\n')
            line++;
        if ((i > 0 && is_word(text.ptr[i - 1])) ||
            memcmp(text.ptr + i, key.ptr, key.len) != 0)
            continue;
        size_t at = i + key.len;
        while (at < text.len && (text.ptr[at] == ' ' || text.ptr[at] == '\t'))
            at++;
        if (at + 1 >= text.len || text.ptr[at] != '=' ||
            text.ptr[at + 1] == '=')
            continue;
        if (found != 0)
            return 0;
        found = line;
    }
    return found;
}

static void print_origin(const struct eval *eval, struct moon_str key, char *to,
                         size_t size)
{
    size_t start = key.len;
    while (start > 0 && key.ptr[start - 1] != '.')
        start--;
    key = moon_str(key.ptr + start, key.len - start);
    unsigned line = key.len > 0 ? find_line(eval->text, key) : 0;
    if (line > 0)
        (void)snprintf(to, size, "%s:%u", eval->namez, line);
    else
        (void)snprintf(to, size, "%s", eval->namez);
}

/* Leaves the protected call; the text is in eval->errorz. */
static void give_up(lua_State *L, struct eval *eval, enum moon_err err)
{
    eval->err = err;
    lua_pushnil(L);
    (void)lua_error(L);
}

static void refuse(lua_State *L, struct eval *eval, const char *whatz)
{
    char originz[300];
    struct moon_str key = moon_buf_str(&eval->key);
    print_origin(eval, key, originz, sizeof(originz));
    (void)snprintf(eval->errorz, sizeof(eval->errorz), "%s: %.*s%s%s", originz,
                   MOON_STR_ARG(key), key.len > 0 ? " " : "", whatz);
    give_up(L, eval, MOON_EINVAL);
}

static void set_key(lua_State *L, struct eval *eval)
{
    char originz[300];
    struct moon_str key = moon_buf_str(&eval->key);
    print_origin(eval, key, originz, sizeof(originz));
    if (eval->value.failed || eval->key.failed)
        give_up(L, eval, MOON_ENOMEM);
    enum moon_err err = moon_config_set(
        eval->config, key, moon_buf_str(&eval->value), MOON_CONFIG_FILE,
        originz, eval->errorz, sizeof(eval->errorz));
    if (err != MOON_OK)
        give_up(L, eval, err);
}

/* A string, number or boolean at the top of the stack, as moon_config_set
 * reads it; false for anything else. */
static bool add_scalar(lua_State *L, struct moon_buf *out)
{
    size_t len;
    const char *bytes;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        moon_buf_addz(out, lua_toboolean(L, -1) ? "true" : "false");
        return true;
    case LUA_TNUMBER: {
        double number = lua_tonumber(L, -1);
        bool whole = number >= -1e15 && number <= 1e15 &&
                     number == (double)(int64_t)number;
        moon_buf_printf(out, whole ? "%.0f" : "%.12g", number);
        return true;
    }
    case LUA_TSTRING:
        bytes = lua_tolstring(L, -1, &len);
        moon_buf_add(out, bytes, len);
        return true;
    default:
        return false;
    }
}

/* { ":8080", ":8081" } -> ":8080,:8081" */
static void set_list(lua_State *L, struct eval *eval)
{
    size_t count = lua_objlen(L, -1);
    size_t seen = 0;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
        seen++;
    if (seen != count)
        refuse(L, eval, "mixes a list and named values");
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, (int)i);
        size_t before = eval->value.len;
        if (!add_scalar(L, &eval->value))
            refuse(L, eval, "is a list with something that is no plain value");
        if (memchr(eval->value.ptr + before, ',', eval->value.len - before) !=
            NULL)
            refuse(L, eval, "has an item with a comma");
        if (i < count)
            moon_buf_add_char(&eval->value, ',');
        lua_pop(L, 1);
    }
    set_key(L, eval);
}

static bool is_key(struct moon_str key)
{
    const char *knownz;
    for (uint32_t i = 0; (knownz = moon_config_key(i)) != NULL; i++) {
        if (moon_str_eq(key, moon_strz(knownz)))
            return true;
    }
    return false;
}

static void set_app(lua_State *L, struct eval *eval)
{
    char errorz[MOON_JSON_ERROR_SIZE] = "";
    char whatz[MOON_JSON_ERROR_SIZE + 32];
    if (lua_type(L, -1) != LUA_TTABLE)
        refuse(L, eval, "is not a table");
    enum moon_err err =
        moon_json_encode(L, -1, &eval->value, errorz, sizeof(errorz));
    if (err != MOON_OK) {
        (void)snprintf(whatz, sizeof(whatz), "holds plain values only: %s",
                       errorz);
        refuse(L, eval, whatz);
    }
    set_key(L, eval);
}

static bool is_empty(lua_State *L)
{
    lua_pushnil(L);
    if (lua_next(L, -2) == 0)
        return true;
    lua_pop(L, 2);
    return false;
}

static void set_table(lua_State *L, struct eval *eval, int depth);

/* Stack: ..., value at the top, which stays. eval->key is its full name. */
static void set_value(lua_State *L, struct eval *eval, int depth)
{
    moon_buf_clear(&eval->value);
    struct moon_str key = moon_buf_str(&eval->key);
    if (moon_str_eq(key, MOON_STR("app"))) {
        set_app(L, eval);
    } else if (lua_type(L, -1) == LUA_TTABLE) {
        if (lua_objlen(L, -1) > 0)
            set_list(L, eval);
        else if (is_empty(L) && is_key(key))
            set_key(L, eval); /* an empty list */
        else
            set_table(L, eval, depth + 1);
    } else if (add_scalar(L, &eval->value)) {
        set_key(L, eval);
    } else {
        refuse(L, eval, "is a function or such; a plain value is needed");
    }
}

/* Stack: ..., table; leaves it. */
static void set_table(lua_State *L, struct eval *eval, int depth)
{
    size_t prefix = eval->key.len;
    if (depth > MAX_DEPTH)
        refuse(L, eval, "is nested too deeply");
    luaL_checkstack(L, 8, "configuration");
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        size_t len;
        if (lua_type(L, -2) != LUA_TSTRING)
            refuse(L, eval,
                   prefix > 0 ? "has a key that is not a name"
                              : "a key of the table it returns is no name");
        const char *name = lua_tolstring(L, -2, &len);
        if (prefix > 0)
            moon_buf_add_char(&eval->key, '.');
        moon_buf_add(&eval->key, name, len);
        set_value(L, eval, depth);
        eval->key.len = prefix;
    }
}

/* ---- the run ---- */

/* Stack: environment, result of the chunk. Leaves the table of settings on
 * top. */
static void choose_table(lua_State *L, struct eval *eval)
{
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    if (lua_type(L, -1) != LUA_TTABLE)
        (void)luaL_error(L, "%s: returns a %s, not a table", eval->namez,
                         luaL_typename(L, -1));
    lua_pushnil(L);
    if (lua_next(L, -3) != 0)
        (void)luaL_error(L,
                         "%s: returns a table and assigns the global \"%s\" "
                         "too; make that local",
                         eval->namez,
                         lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2)
                                                        : "?");
}

/* lua_CFunction under lua_cpcall: takes the struct eval. */
static int run(lua_State *L)
{
    char chunkz[300];
    struct eval *eval = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&self_key);
    lua_pushlightuserdata(L, eval);
    lua_rawset(L, LUA_REGISTRYINDEX);
    open_libraries(L);
    (void)luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    (void)snprintf(chunkz, sizeof(chunkz), "@%s", eval->namez);
    if (luaL_loadbufferx(L, eval->text.ptr, eval->text.len, chunkz, "t") != 0)
        return lua_error(L);
    /* What the file assigns lands in a table of its own; what it reads may
     * come from the libraries. */
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    (void)lua_setfenv(L, -2);
    (void)lua_sethook(L, watch_clock, LUA_MASKCOUNT, 1000);
    lua_call(L, 0, 1);
    (void)lua_sethook(L, NULL, 0, 0);
    choose_table(L, eval);
    set_table(L, eval, 0);
    return 0;
}

/* Frees on the way; the first lines of an error are the user's. */
static enum moon_err finish(lua_State *L, struct eval *eval, int status,
                            char *error, size_t error_size)
{
    if (status != 0) {
        const char *textz = lua_tostring(L, -1);
        if (eval->errorz[0] != '\0')
            textz = eval->errorz;
        else if (status == LUA_ERRMEM)
            textz = "needs more than 64 MiB of memory";
        else if (textz == NULL)
            textz = "raised an error that is not text";
        bool named = strncmp(textz, eval->namez, strlen(eval->namez)) == 0;
        (void)snprintf(error, error_size, "%s%s%s", named ? "" : eval->namez,
                       named ? "" : ": ", textz);
        if (eval->err == MOON_OK)
            eval->err = MOON_ELUA;
    }
    lua_close(L);
    moon_buf_deinit(&eval->value);
    moon_buf_deinit(&eval->key);
    return eval->err;
}

enum moon_err moon_config_eval(struct moon_config *config, struct moon_str text,
                               const char *namez, char *error,
                               size_t error_size)
{
    struct eval eval = {
        .config = config,
        .text = text,
        .namez = namez,
        .deadline_ms = moon_clock_ms() + TIME_LIMIT_MS,
    };
    moon_memory_init(&eval.memory, MEMORY_LIMIT, MEMORY_LIMIT);
    lua_State *L = lua_newstate(moon_memory_alloc, &eval.memory);
    if (L == NULL) {
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    int status = lua_cpcall(L, run, &eval);
    return finish(L, &eval, status, error, error_size);
}
