/* One value out of the JSON of another node: within the text, and of an object
 * that is JSON the one that a real decoder finds. The first line of the input
 * is the key. */
#include "json_oracle.h"
#include "lua_state.h"

#include "fleet/json_pick.h"
#include "vm/json.h"

static lua_State *L;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    L = lua_state_create();
    return 0;
}

/* Does it stand for the same? Keys that are written with escapes, or twice, are
 * not what this is for: then any of the values will do. */
static void check_value(struct moon_str json, const char *keyz, bool found,
                        struct moon_str value)
{
    char error[MOON_JSON_ERROR_SIZE];
    if (moon_json_decode(L, json, error, sizeof(error)) != MOON_OK ||
        lua_type(L, 1) != LUA_TTABLE)
        return;
    lua_getfield(L, 1, keyz);
    int type = lua_type(L, 2);
    FUZZ_CHECK(!found || type != LUA_TNIL);
    if (!found || memchr(json.ptr, '\\', json.len) != NULL)
        return;
    const char *colon = memchr(json.ptr, ':', json.len);
    size_t left = (size_t)(json.ptr + json.len - colon) - 1;
    if (memchr(colon + 1, ':', left) != NULL)
        return; /* perhaps there are two of that name */
    if (type == LUA_TNUMBER || type == LUA_TBOOLEAN || type == LUA_TTABLE)
        FUZZ_CHECK(json_oracle_accepts(value, MOON_JSON_MAX_DEPTH));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    struct moon_str line = fuzz_until(&bytes, '\n');
    char keyz[40] = "";
    if (line.len >= sizeof(keyz))
        return 0;
    memcpy(keyz, line.ptr, line.len);
    struct moon_str json = fuzz_copy(fuzz_str(bytes.at, fuzz_left(&bytes)));
    struct moon_str value = MOON_STR_NONE;
    bool found = moon_json_pick(json, keyz, &value);
    FUZZ_CHECK(!found || fuzz_within(value, json));
    check_value(json, keyz, found, value);
    lua_settop(L, 0);
    fuzz_free(json);
    return 0;
}
