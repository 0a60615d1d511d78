#include "vm/safepoint.h"

#include "vm/safepoint_scan.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

/* How much of the counting a text can bear. A function that has no room for
 * one more local, or for one more upvalue, makes the next level down. */
enum level {
    LEVEL_FULL,   /* a local for loops, a chunk-wide upvalue for entries */
    LEVEL_SHARED, /* the upvalue for both: one local less */
    LEVEL_LOOPS,  /* only the local: no upvalue */
    LEVEL_COUNT
};

#define STRINGIFY(x) #x
#define TEXT(x) STRINGIFY(x)

/* A local counter counts down to exactly zero, because LuaJIT compares with a
 * constant in one instruction only for equality. The shared one outlives the
 * error that a check, or the hook between two of its instructions, raises, so
 * it must not rely on meeting zero. Both are reset before the check. */
#define EVERY TEXT(MOON_SAFEPOINT_EVERY)
#define DECLARE(name) " local " name "=" EVERY ";"
#define COUNT(name, weight, spent)                                         \
    " " name "=" name "-" weight " if " name spent " then " name "=" EVERY \
    ";(\"\").__moon_check() end "
#define COUNT_LOOP COUNT("__moon_n", "1", "==0")
#define COUNT_SHARED_LOOP COUNT("__moon_s", "1", "<1")
#define COUNT_CALL COUNT("__moon_s", "1", "<1")
/* A loop that ends before its own counter does, in a function that is called
 * without end: the entry weighs what a short loop would. */
#define COUNT_LOOP_CALL COUNT("__moon_s", "20", "<1")

static void add_place(struct moon_buf *out, const struct moon_scan *scan,
                      size_t index, enum level level)
{
    const struct moon_place *place = moon_scan_at(scan, index);
    bool shared = level == LEVEL_SHARED;
    if (place->kind == MOON_PLACE_LOOP) {
        moon_buf_addz(out, shared ? COUNT_SHARED_LOOP : COUNT_LOOP);
        return;
    }
    bool entries = level != LEVEL_LOOPS && scan->has_entry;
    if (index == 0 && (entries || (shared && scan->has_loop)))
        moon_buf_addz(out, DECLARE("__moon_s"));
    if (index > 0 && entries && place->has_loop && !shared)
        moon_buf_addz(out, COUNT_LOOP_CALL);
    else if (index > 0 && entries && place->has_call)
        moon_buf_addz(out, COUNT_CALL);
    if (place->has_loop && !shared)
        moon_buf_addz(out, DECLARE("__moon_n"));
}

static enum moon_err instrument(struct moon_str source,
                                const struct moon_scan *scan, enum level level,
                                struct moon_buf *out)
{
    size_t done = 0;
    for (size_t i = 0; i < moon_scan_count(scan); i++) {
        size_t offset = moon_scan_at(scan, i)->offset;
        moon_buf_add(out, source.ptr + done, offset - done);
        add_place(out, scan, i, level);
        done = offset;
    }
    moon_buf_add(out, source.ptr + done, source.len - done);
    return out->failed ? MOON_ENOMEM : MOON_OK;
}

enum moon_err moon_safepoint_instrument(struct moon_str source,
                                        struct moon_buf *out,
                                        bool *instrumented)
{
    struct moon_scan scan;
    enum moon_err err = moon_scan_source(&scan, source);
    if (err == MOON_OK)
        err = instrument(source, &scan, LEVEL_FULL, out);
    *instrumented = scan.has_loop || scan.has_entry;
    moon_scan_deinit(&scan);
    return err;
}

static int load_text(lua_State *L, struct moon_str text, const char *chunk)
{
    return luaL_loadbufferx(L, text.ptr, text.len, chunk, "t");
}

/* Leaves the function, or nothing. */
static bool load_level(lua_State *L, struct moon_str source, const char *chunk,
                       const struct moon_scan *scan, enum level level)
{
    struct moon_buf text = {0};
    bool tried = instrument(source, scan, level, &text) == MOON_OK;
    bool loaded = tried && load_text(L, moon_buf_str(&text), chunk) == 0;
    moon_buf_deinit(&text);
    if (tried && !loaded)
        lua_pop(L, 1);
    return loaded;
}

/* The text as it is, replaced by the best level below full that compiles. */
static int load_reduced(lua_State *L, struct moon_str source, const char *chunk,
                        const struct moon_scan *scan)
{
    int status = load_text(L, source, chunk);
    if (status != 0)
        return status;
    for (enum level level = LEVEL_SHARED; level < LEVEL_COUNT; level++) {
        if (load_level(L, source, chunk, scan, level)) {
            lua_replace(L, -2);
            break;
        }
    }
    return 0;
}

int moon_safepoint_load(lua_State *L, struct moon_str source,
                        const char *chunk_namez, bool *fell_back)
{
    bool reduced = false;
    int status = 0;
    struct moon_scan scan;
    if (moon_scan_source(&scan, source) != MOON_OK) {
        reduced = true;
        status = load_text(L, source, chunk_namez);
    } else if (!scan.has_loop && !scan.has_entry) {
        status = load_text(L, source, chunk_namez);
    } else if (!load_level(L, source, chunk_namez, &scan, LEVEL_FULL)) {
        reduced = true;
        status = load_reduced(L, source, chunk_namez, &scan);
    }
    moon_scan_deinit(&scan);
    if (fell_back != NULL)
        *fell_back = reduced && status == 0;
    return status;
}

/* compile(text, chunk_name) -> function | nil, message */
static int lua_compile(lua_State *L)
{
    struct moon_str source;
    source.ptr = luaL_checklstring(L, 1, &source.len);
    const char *chunk = luaL_checkstring(L, 2);
    if (moon_safepoint_load(L, source, chunk, NULL) == 0)
        return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* What LuaJIT's own functions do, with its messages, but for bytecode. */
static const char loaders[] =
    "local compile, open, read = ...\n"
    "local error, pcall, select, setfenv, type, concat =\n"
    "    error, pcall, select, setfenv, type, table.concat\n"
    "local function gather(reader)\n"
    "    local parts = {}\n"
    "    while true do\n"
    "        local part = reader()\n"
    "        if part == nil or part == '' then return concat(parts) end\n"
    "        if type(part) ~= 'string' and type(part) ~= 'number' then\n"
    "            error('reader function must return a string', 0)\n"
    "        end\n"
    "        parts[#parts + 1] = part\n"
    "    end\n"
    "end\n"
    "local function build(text, name, mode, env)\n"
    "    if mode and not mode:find('t', 1, true) then\n"
    "        return nil, 'attempt to load chunk with wrong mode'\n"
    "    end\n"
    "    local fn, message = compile(text, name)\n"
    "    if fn and type(env) == 'table' then setfenv(fn, env) end\n"
    "    return fn, message\n"
    "end\n"
    "function load(text, name, mode, env)\n"
    "    local kind = type(text)\n"
    "    if kind == 'number' then text, kind = text .. '', 'string' end\n"
    "    if kind == 'function' then\n"
    "        local ok, all = pcall(gather, text)\n"
    "        if not ok then return nil, all end\n"
    "        text, name = all, name or '=(load)'\n"
    "    elseif kind ~= 'string' then\n"
    "        error(\"bad argument #1 to 'load' (function expected, got \" ..\n"
    "              kind .. ')', 2)\n"
    "    end\n"
    "    local fn, message = build(text, name or text, mode, env)\n"
    "    if fn then return fn end\n"
    "    return nil, message\n"
    "end\n"
    "loadstring = load\n"
    "if not open then loadfile, dofile = nil, nil return end\n"
    "function loadfile(path, mode, env)\n"
    "    local name, text, message = '=stdin', nil, nil\n"
    "    if path then\n"
    "        local file\n"
    "        file, message = open(path, 'rb')\n"
    "        if not file then return nil, 'cannot open ' .. message end\n"
    "        name, text, message = '@' .. path, file:read('*a')\n"
    "        file:close()\n"
    "        if not text then return nil, 'cannot read ' .. message end\n"
    "    else\n"
    "        text = read('*a')\n"
    "    end\n"
    "    local fn\n"
    "    fn, message = build(text, name, mode, env)\n"
    "    if fn then return fn end\n"
    "    return nil, message\n"
    "end\n"
    "local loadfile = loadfile\n"
    "function dofile(path)\n"
    "    local fn, message = loadfile(path)\n"
    "    if not fn then error(message, 0) end\n"
    "    return fn()\n"
    "end\n";

void moon_safepoint_open(lua_State *L)
{
    int top = lua_gettop(L);
    if (moon_safepoint_load(L, moon_str(loaders, sizeof(loaders) - 1),
                            "=[moonshine load]", NULL) != 0)
        lua_error(L);
    lua_pushcfunction(L, lua_compile);
    lua_getglobal(L, "io");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "open");
        lua_getfield(L, -2, "read");
        lua_remove(L, -3);
    } else {
        lua_pushnil(L);
    }
    lua_call(L, lua_gettop(L) - top - 1, 0);
    lua_settop(L, top);
}
