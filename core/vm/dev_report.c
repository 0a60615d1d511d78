#include "vm/dev_report.h"

#include "vm/json.h"
#include "vm/vm_internal.h"

#include <lualib.h>

const char moon_dev_policy[] =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct job {
    struct moon_str in;
    const struct moon_archive *files;
    struct moon_buf *out;
    enum moon_err err;
};

/* read(name) -> text or nil; upvalue 1 is the archive. */
static int read_file(lua_State *L)
{
    const struct moon_archive *files = lua_touserdata(L, lua_upvalueindex(1));
    struct moon_str name, bytes;
    name.ptr = luaL_checklstring(L, 1, &name.len);
    if (files == NULL || !moon_archive_find(files, name, &bytes))
        return 0;
    lua_pushlstring(L, bytes.ptr, bytes.len);
    return 1;
}

/* Takes nothing, leaves the function `namez` of a framework module. */
static void push_function(lua_State *L, const char *modulez, const char *namez)
{
    luaL_openlibs(L);
    moon_vm_open_framework(L);
    lua_getglobal(L, "require");
    lua_pushstring(L, modulez);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, namez);
}

/* lua_CFunction under lua_cpcall. */
static int make_facts(lua_State *L)
{
    char error[MOON_JSON_ERROR_SIZE];
    struct job *job = lua_touserdata(L, 1);
    push_function(L, "moonshine.dev_facts", "from_text");
    lua_pushlstring(L, job->in.ptr, job->in.len);
    lua_pushlightuserdata(L, (void *)(uintptr_t)job->files);
    lua_pushcclosure(L, read_file, 1);
    lua_call(L, 2, 1);
    job->err = moon_json_encode_lossy(L, -1, job->out, error, sizeof(error));
    return 0;
}

/* lua_CFunction under lua_cpcall. */
static int make_page(lua_State *L)
{
    char error[MOON_JSON_ERROR_SIZE];
    struct job *job = lua_touserdata(L, 1);
    struct moon_str html;
    push_function(L, "moonshine.dev_page", "render");
    job->err = moon_json_decode(L, job->in, error, sizeof(error));
    if (job->err != MOON_OK)
        return 0;
    lua_call(L, 1, 1);
    html.ptr = luaL_checklstring(L, -1, &html.len);
    moon_buf_add_str(job->out, html);
    return 0;
}

static enum moon_err do_job(struct job *job, lua_CFunction fn)
{
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return MOON_ENOMEM;
    if (lua_cpcall(L, fn, job) != 0)
        job->err = MOON_ELUA;
    lua_close(L);
    return job->err == MOON_OK && job->out->failed ? MOON_ENOMEM : job->err;
}

enum moon_err moon_dev_facts(struct moon_str text,
                             const struct moon_archive *files,
                             struct moon_buf *facts)
{
    struct job job = {.in = text, .files = files, .out = facts};
    return do_job(&job, make_facts);
}

enum moon_err moon_dev_page(struct moon_str facts, struct moon_buf *html)
{
    struct job job = {.in = facts, .out = html};
    return do_job(&job, make_page);
}
