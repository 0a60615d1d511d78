/* JSON from clients: what is accepted, against a second opinion; what was read
 * is written and read again, and is the same. */
#include "json_oracle.h"
#include "lua_state.h"

#include "vm/json.h"
#include "vm/json_number.h"

#include <math.h>

static lua_State *L;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    L = lua_state_create();
    return 0;
}

static bool same(int a, int b);

static size_t count_of(int index)
{
    size_t count = 0;
    lua_pushnil(L);
    for (; lua_next(L, index) != 0; count++)
        lua_pop(L, 1);
    return count;
}

/* Has the table at `b` all that the one at `a` has, and no more? */
static bool same_table(int a, int b)
{
    if (count_of(a) != count_of(b))
        return false;
    lua_pushnil(L);
    while (lua_next(L, a) != 0) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        if (!same(lua_gettop(L) - 1, lua_gettop(L)))
            return false;
        lua_pop(L, 2);
    }
    return true;
}

static bool same(int a, int b)
{
    FUZZ_CHECK(lua_checkstack(L, 10));
    if (lua_type(L, a) != lua_type(L, b))
        return false;
    if (lua_type(L, a) != LUA_TTABLE)
        return lua_rawequal(L, a, b);
    bool marked[2];
    for (int i = 0; i < 2; i++) {
        marked[i] = lua_getmetatable(L, i == 0 ? a : b) != 0;
        lua_settop(L, lua_gettop(L) - marked[i]);
    }
    return marked[0] == marked[1] && same_table(a, b);
}

/* Of the value on the stack; lossy or not is the same for what is UTF-8. */
static void check_round_trip(void)
{
    struct moon_buf text = {0}, lossy = {0};
    char error[MOON_JSON_ERROR_SIZE];
    FUZZ_CHECK(moon_json_encode(L, 1, &text, error, sizeof(error)) == MOON_OK);
    FUZZ_CHECK(moon_json_encode_lossy(L, 1, &lossy, error, sizeof(error)) ==
               MOON_OK);
    FUZZ_CHECK(moon_str_eq(moon_buf_str(&text), moon_buf_str(&lossy)));
    struct moon_str copy = fuzz_copy(moon_buf_str(&text));
    FUZZ_CHECK(json_oracle_accepts(copy, MOON_JSON_MAX_DEPTH));
    FUZZ_CHECK(moon_json_decode(L, copy, error, sizeof(error)) == MOON_OK);
    FUZZ_CHECK(lua_gettop(L) == 2);
    FUZZ_CHECK(same(1, 2));
    fuzz_free(copy);
    moon_buf_deinit(&text);
    moon_buf_deinit(&lossy);
}

/* Any bytes can be put into an answer, and strict encoding says which are not
 * text. */
static void check_text(struct moon_str bytes)
{
    struct moon_buf text = {0}, strict = {0}, plain = {0};
    char error[MOON_JSON_ERROR_SIZE];
    lua_pushlstring(L, bytes.ptr, bytes.len);
    FUZZ_CHECK(moon_json_encode_lossy(L, -1, &text, error, sizeof(error)) ==
               MOON_OK);
    FUZZ_CHECK(json_oracle_accepts(moon_buf_str(&text), 0));
    enum moon_err err = moon_json_encode(L, -1, &strict, error, sizeof(error));
    FUZZ_CHECK(err == MOON_OK || (err == MOON_EINVAL && strict.len == 0));
    FUZZ_CHECK(moon_json_decode(L, moon_buf_str(&text), error, sizeof(error)) ==
               MOON_OK);
    FUZZ_CHECK((err == MOON_OK) == (lua_rawequal(L, -1, -2) != 0));
    /* The one for logs and C. */
    moon_buf_add_json(&plain, bytes);
    FUZZ_CHECK(json_oracle_accepts(moon_buf_str(&plain), 0));
    moon_buf_deinit(&text);
    moon_buf_deinit(&strict);
    moon_buf_deinit(&plain);
    lua_settop(L, 0);
}

/* Eight bytes are a number: its text is the shortest that reads back. */
static void check_number(struct moon_str bytes)
{
    char text[MOON_JSON_NUMBER_SIZE + 1];
    double value, back;
    if (bytes.len < sizeof(value))
        return;
    memcpy(&value, bytes.ptr, sizeof(value));
    if (!isfinite(value))
        return;
    size_t len = moon_json_number_write(value, text);
    FUZZ_CHECK(len > 0 && len <= MOON_JSON_NUMBER_SIZE);
    text[len] = '\0';
    const char *at = text;
    FUZZ_CHECK(moon_json_number_read(&at, text + len, &back) ==
               MOON_JSON_NUMBER_OK);
    FUZZ_CHECK(at == text + len && back == value);
    FUZZ_CHECK(strtod(text, NULL) == value);
    FUZZ_CHECK(json_oracle_accepts(moon_str(text, len), 0));
}

static void check_read_number(struct moon_str text)
{
    char copy[300];
    double value;
    const char *at = text.ptr;
    if (text.len >= sizeof(copy) || text.len == 0 ||
        memchr(text.ptr, '\0', text.len) != NULL ||
        moon_json_number_read(&at, text.ptr + text.len, &value) !=
            MOON_JSON_NUMBER_OK)
        return;
    size_t len = (size_t)(at - text.ptr);
    memcpy(copy, text.ptr, len);
    copy[len] = '\0';
    FUZZ_CHECK(strtod(copy, NULL) == value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[MOON_JSON_ERROR_SIZE] = "";
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    check_text(text);
    check_number(text);
    check_read_number(text);
    enum moon_err err = moon_json_decode(L, text, error, sizeof(error));
    FUZZ_CHECK(json_oracle_accepts(text, MOON_JSON_MAX_DEPTH) ==
               (err == MOON_OK));
    if (err == MOON_OK) {
        FUZZ_CHECK(lua_gettop(L) == 1);
        check_round_trip();
    } else {
        FUZZ_CHECK(err == MOON_EPROTO && lua_gettop(L) == 0);
        FUZZ_CHECK(error[0] != '\0');
    }
    lua_settop(L, 0);
    fuzz_free(text);
    return 0;
}
