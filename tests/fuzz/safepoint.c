/* Instrumentation: a program does the same with and without, down to the lines
 * in its messages; and any text compiles with it that compiles without, with
 * nothing changed but what was put in.
 *
 * Input that begins with '=' is such a text; all else makes a program. */
#include "lua_program.h"
#include "lua_state.h"

#include "vm/budget.h"
#include "vm/safepoint.h"

#include <lauxlib.h>
#include <luajit.h>

enum { FUEL = 300, LOG_BYTES = 200000 };

static lua_State *L;
static struct moon_trap trap;
static struct moon_buf logged;
static int fuel;

/* ---- what programs see ---- */

static void add_value(int index)
{
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        moon_buf_addz(&logged, lua_tostring(L, index));
        break;
    case LUA_TBOOLEAN:
        moon_buf_addz(&logged, lua_toboolean(L, index) ? "true" : "false");
        break;
    default:
        moon_buf_addz(&logged, luaL_typename(L, index));
        break;
    }
}

/* They may be called in a coroutine, whose values are then those of L. */
static int log_values(lua_State *co)
{
    lua_State *main = L;
    L = co;
    if (logged.len > LOG_BYTES)
        luaL_error(co, "logged too much");
    for (int i = 1; i <= lua_gettop(co); i++) {
        lua_pushvalue(co, i); /* lua_tostring changes a number */
        add_value(-1);
        lua_pop(co, 1);
        moon_buf_add_char(&logged, ',');
    }
    moon_buf_add_char(&logged, '\n');
    L = main;
    return 0;
}

static int tick(lua_State *co)
{
    if (--fuel < 0)
        return luaL_error(co, "no fuel");
    lua_pushboolean(co, fuel % 3 != 0);
    return 1;
}

static int no_fuel(lua_State *co)
{
    lua_pushboolean(co, --fuel < 0);
    return 1;
}

static int line(lua_State *co)
{
    lua_Debug info;
    int found = -1;
    if (lua_getstack(co, 1, &info) && lua_getinfo(co, "l", &info))
        found = info.currentline;
    lua_pushinteger(co, found);
    return 1;
}

static int say(lua_State *co)
{
    int type = lua_type(co, 1);
    if (type == LUA_TNUMBER || type == LUA_TSTRING)
        lua_settop(co, 1);
    else
        lua_pushstring(co, luaL_typename(co, 1));
    return 1;
}

static int set_up(lua_State *co)
{
    static const luaL_Reg functions[] = {
        {"log", log_values}, {"tick", tick}, {"fuel", no_fuel},
        {"line", line},      {"say", say},
    };
    moon_budget_install(co, &trap);
    moon_safepoint_open(co);
    for (size_t i = 0; i < MOON_COUNT(functions); i++)
        lua_register(co, functions[i].name, functions[i].func);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    L = lua_state_create();
    FUZZ_CHECK(lua_cpcall(L, set_up, NULL) == 0);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    return 0;
}

/* ---- programs ---- */

/* In an environment of its own: what it assigns does not last. */
static void set_environment(void)
{
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfenv(L, -2);
}

/* All that it says, with its last words. */
static struct moon_buf run(struct moon_str source, bool instrumented)
{
    logged = (struct moon_buf){0};
    fuel = FUEL;
    int status = instrumented
                     ? moon_safepoint_load(L, source, "@p.lua", NULL)
                     : luaL_loadbuffer(L, source.ptr, source.len, "@p.lua");
    if (status == 0) {
        set_environment();
        lua_pushinteger(L, 7);
        status = lua_pcall(L, 1, LUA_MULTRET, 0);
    }
    moon_buf_printf(&logged, "status %d\n", status);
    lua_pushcfunction(L, log_values);
    lua_insert(L, 1);
    FUZZ_CHECK(lua_pcall(L, lua_gettop(L) - 1, 0, 0) == 0 ||
               logged.len > LOG_BYTES);
    lua_settop(L, 0);
    return logged;
}

static void check_program(struct fuzz_bytes *bytes)
{
    struct moon_buf text = {0};
    lua_program_write(bytes, &text);
    struct moon_str source = fuzz_copy(moon_buf_str(&text));
    struct moon_buf before = run(source, false);
    struct moon_buf after = run(source, true);
    if (!moon_str_eq(moon_buf_str(&before), moon_buf_str(&after)))
        (void)fprintf(stderr, "%.*s\n-- without:\n%.*s\n-- with:\n%.*s\n",
                      MOON_STR_ARG(source), MOON_STR_ARG(moon_buf_str(&before)),
                      MOON_STR_ARG(moon_buf_str(&after)));
    FUZZ_CHECK(moon_str_eq(moon_buf_str(&before), moon_buf_str(&after)));
    moon_buf_deinit(&before);
    moon_buf_deinit(&after);
    moon_buf_deinit(&text);
    fuzz_free(source);
}

/* ---- texts ---- */

/* Length of what was put in at the start of `s`; 0: nothing. */
static size_t insertion(struct moon_str s)
{
    const char *end = NULL;
    size_t tail = 0;
    if (moon_str_starts(s, MOON_STR(" local __moon_"))) {
        end = memchr(s.ptr, ';', s.len);
        tail = 1;
    } else if (moon_str_starts(s, MOON_STR(" __moon_"))) {
        end = memmem(s.ptr, s.len, "() end ", 7);
        tail = 7;
    }
    return end == NULL ? 0 : (size_t)(end - s.ptr) + tail;
}

/* Without what was put in it is the source. */
static void check_insertions(struct moon_str source, struct moon_str text)
{
    size_t at = 0;
    while (text.len > 0) {
        size_t skip = insertion(text);
        if (skip == 0) {
            FUZZ_CHECK(at < source.len && source.ptr[at] == text.ptr[0]);
            at++;
            skip = 1;
        } else {
            FUZZ_CHECK(memchr(text.ptr, '\n', skip) == NULL);
        }
        text = moon_str(text.ptr + skip, text.len - skip);
    }
    FUZZ_CHECK(at == source.len);
}

/* What does not compile fails with the message of the original text. */
static void check_text(struct moon_str text)
{
    struct moon_str source = fuzz_copy(text);
    struct moon_buf out = {0};
    bool instrumented = false, fell_back = false;
    if (memmem(source.ptr, source.len, "__moon_", 7) == NULL &&
        moon_safepoint_instrument(source, &out, &instrumented) == MOON_OK)
        check_insertions(source, moon_buf_str(&out));
    int before = luaL_loadbufferx(L, source.ptr, source.len, "=t", "t");
    int after = moon_safepoint_load(L, source, "=t", &fell_back);
    FUZZ_CHECK(before == after);
    if (before != 0)
        FUZZ_CHECK(strcmp(lua_tostring(L, 1), lua_tostring(L, 2)) == 0);
    lua_settop(L, 0);
    moon_buf_deinit(&out);
    fuzz_free(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    if (size > 4000)
        return 0;
    if (size > 0 && data[0] == '=')
        check_text(fuzz_str(data + 1, size - 1));
    else
        check_program(&bytes);
    return 0;
}
