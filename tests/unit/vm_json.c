/* The JSON codec: what Lua sees of it, its C interface, random values there
 * and back, and JSONTestSuite where that is at hand. */
#include "vm/json.h"
#include "vm/json_number.h"

#include <dirent.h>
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_state(void **state)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    *state = L;
    return 0;
}

static int close_state(void **state)
{
    lua_State *L = *state;
    assert_int_equal(lua_gettop(L), 0);
    lua_close(L);
    return 0;
}

/* *state comes as the name of a test in vm_json.lua and leaves as a Lua state
 * with that function on its stack. */
static int open_lua_test(void **state)
{
    const char *name = *state;
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    if (luaL_loadfile(L, MOON_SOURCE_DIR "/tests/unit/vm_json.lua") != 0)
        fail_msg("%s", lua_tostring(L, -1));
    lua_pushcfunction(L, moon_json_open);
    lua_call(L, 0, 1);
    if (lua_pcall(L, 1, 1, 0) != 0)
        fail_msg("%s", lua_tostring(L, -1));
    lua_getfield(L, 1, name);
    lua_remove(L, 1);
    *state = L;
    return 0;
}

static void lua_test(void **state)
{
    lua_State *L = *state;
    if (lua_pcall(L, 0, 0, 0) != 0)
        fail_msg("%s", lua_tostring(L, -1));
}

static void c_interface(void **state)
{
    lua_State *L = *state;
    struct moon_buf out = {0};
    char error[MOON_JSON_ERROR_SIZE] = "";
    moon_buf_addz(&out, "body: ");
    assert_int_equal(luaL_dostring(L, "return { a = { 'x\255y' } }"), 0);
    /* a failure leaves the buffer and the stack as they were */
    assert_int_equal(moon_json_encode(L, -1, &out, error, sizeof(error)),
                     MOON_EINVAL);
    assert_string_equal(error,
                        "cannot encode a string that is not UTF-8 at .a[1]");
    assert_int_equal(out.len, 6);
    assert_int_equal(lua_gettop(L), 1);
    assert_int_equal(moon_json_encode_lossy(L, 1, &out, error, sizeof(error)),
                     MOON_OK);
    assert_true(moon_str_eq(moon_buf_str(&out),
                            MOON_STR("body: {\"a\":[\"x\xef\xbf\xbdy\"]}")));
    assert_int_equal(lua_gettop(L), 1);
    /* a failed buffer is memory that is out, not a bad value */
    out.failed = true;
    assert_int_equal(moon_json_encode(L, 1, &out, error, sizeof(error)),
                     MOON_ENOMEM);
    moon_buf_deinit(&out);
    lua_pop(L, 1);

    assert_int_equal(
        moon_json_decode(L, MOON_STR("[1, 2]"), error, sizeof(error)), MOON_OK);
    assert_int_equal(lua_gettop(L), 1);
    assert_int_equal(lua_objlen(L, 1), 2);
    lua_pop(L, 1);
    assert_int_equal(
        moon_json_decode(L, MOON_STR("[1, [2, 3"), error, sizeof(error)),
        MOON_EPROTO);
    assert_string_equal(error, "line 1, column 10: expected ',' or ']'");
    assert_int_equal(moon_json_decode(L, MOON_STR_NONE, error, sizeof(error)),
                     MOON_EPROTO);
    /* a short buffer for the text is cut, not overrun */
    char few[8];
    assert_int_equal(moon_json_decode(L, MOON_STR("x"), few, sizeof(few)),
                     MOON_EPROTO);
    assert_string_equal(few, "line 1,");
    assert_int_equal(lua_gettop(L), 0);
}

/* Any text that decodes does so from a block that ends right behind it, so
 * that a sanitizer sees a read too far; every cut of it is refused or read. */
static void no_read_behind_the_end(void **state)
{
    lua_State *L = *state;
    static const char text[] =
        "{\"a\":[1.5e-3,-0,true,false,null,\"\\u00e9\\ud834\\udd1e\\n\"],"
        "\"gr\xc3\xbcn\":{\"\xf0\x9d\x84\x9e\":12345678901234567890}}";
    char error[MOON_JSON_ERROR_SIZE];
    for (size_t len = 0; len < sizeof(text); len++) {
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, text, len);
        enum moon_err err =
            moon_json_decode(L, moon_str(copy + 1, len), error, sizeof(error));
        assert_int_equal(err, len == sizeof(text) - 1 ? MOON_OK : MOON_EPROTO);
        free(copy);
        lua_settop(L, 0);
    }
}

/* An allocator that gives up after some calls. */
struct allowance {
    long left;
};

static void *allocate(void *data, void *ptr, size_t old_size, size_t size)
{
    struct allowance *allowance = data;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    if (size > old_size && allowance->left-- <= 0)
        return NULL;
    return realloc(ptr, size);
}

/* Stack: encode, decode, text; takes all three. */
static bool try_round_trip(lua_State *L)
{
    int failed = lua_pcall(L, 1, 1, 0);
    if (failed == 0)
        failed = lua_pcall(L, 1, 1, 0);
    assert_true(failed == 0 || failed == LUA_ERRMEM);
    return failed == 0;
}

/* Wherever Lua runs out of memory, it says so and nothing leaks. */
static void lua_out_of_memory(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[1,2,3,[4,[5,{\"b\":null}]]],\"x\\ny\":\"z\\u00e9\","
        "\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":[[],[],{}]}";
    bool done = false;
    for (long calls = 0; !done; calls++) {
        struct allowance allowance = {.left = LONG_MAX};
        lua_State *L = lua_newstate(allocate, &allowance);
        assert_non_null(L);
        lua_pushcfunction(L, moon_json_open);
        lua_call(L, 0, 1);
        lua_getfield(L, 1, "encode");
        lua_getfield(L, 1, "decode");
        lua_pushlstring(L, text, sizeof(text) - 1);
        allowance.left = calls;
        done = try_round_trip(L);
        allowance.left = LONG_MAX;
        lua_close(L);
        assert_true(calls < 1000);
    }
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static double random_double(void)
{
    uint64_t bits = next_random();
    double value;
    switch (bits % 4) {
    case 0: /* an amount of money */
        return (double)(int64_t)(next_random() % 2000001) / 100 - 10000;
    case 1: /* an integer of any size */
        return (double)(int64_t)(next_random() >> next_random() % 64);
    case 2: /* a measurement */
        return (double)(next_random() >> 11) / 9007199254740992.0 *
               pow(10, (double)(next_random() % 20));
    default: /* any bits at all */
        do {
            bits = next_random();
            memcpy(&value, &bits, sizeof(value));
        } while (!isfinite(value));
        return value;
    }
}

/* 16 to 21 digits, where one rounding too many would show. */
static void random_digits_are_rounded_once(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char text[64];
        size_t len = 0;
        for (uint64_t count = 16 + next_random() % 6; len < count; len++)
            text[len] = (char)('1' + next_random() % 9);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "e-%d",
                                (int)(next_random() % 24));
        const char *at = text;
        double value = 0;
        assert_int_equal(moon_json_number_read(&at, text + len, &value),
                         MOON_JSON_NUMBER_OK);
        if (value != strtod(text, NULL))
            fail_msg("%s became %a", text, value);
    }
}

static void random_numbers_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        double value = random_double(), back = 0;
        char text[MOON_JSON_NUMBER_SIZE + 1], shorter[512];
        size_t len = moon_json_number_write(value, text);
        assert_in_range(len, 1, MOON_JSON_NUMBER_SIZE);
        text[len] = '\0';
        const char *at = text;
        assert_int_equal(moon_json_number_read(&at, text + len, &back),
                         MOON_JSON_NUMBER_OK);
        assert_ptr_equal(at, text + len);
        if (value != back || signbit(value) != signbit(back))
            fail_msg("%a became %s, then %a", value, text, back);
        if (strtod(text, NULL) != value)
            fail_msg("%a is not %s", value, text);
        /* no shorter %g form reads back, other than by how zeros are put */
        int digits = 0;
        for (const char *p = text; *p != '\0' && *p != 'e'; p++)
            digits += (*p >= '1' && *p <= '9') || (*p == '0' && digits > 0);
        if (digits < 2 || strchr(text, '.') == NULL)
            continue;
        (void)snprintf(shorter, sizeof(shorter), "%.*g", digits - 1, value);
        if (strtod(shorter, NULL) == value)
            fail_msg("%s could be %s", text, shorter);
    }
}

/* Pushes a random value that has a JSON form. */
static void push_random(lua_State *L, int depth)
{
    unsigned kind = (unsigned)(next_random() % (depth > 0 ? 7 : 5));
    int count = (int)(next_random() % 20);
    char text[64];
    size_t len = 0;
    luaL_checkstack(L, 8, NULL);
    switch (kind) {
    case 0:
        lua_pushboolean(L, next_random() & 1);
        return;
    case 1:
        lua_pushlightuserdata(L, NULL);
        return;
    case 2:
    case 3:
        lua_pushnumber(L, random_double());
        return;
    case 4:
        while (len < (size_t)count) {
            static const char *const parts[] = {
                "\"", "\\", "\n", "\x01", "\xc3\xbc", "\xe2\x82\xac", "/"};
            uint64_t pick = next_random() % 30;
            if (pick < MOON_COUNT(parts)) {
                memcpy(text + len, parts[pick], strlen(parts[pick]));
                len += strlen(parts[pick]);
            } else {
                text[len++] = (char)('a' + pick % 26);
            }
        }
        lua_pushlstring(L, text, len);
        return;
    case 5:
        lua_createtable(L, 0, 0);
        moon_json_push_array_mark(L);
        lua_setmetatable(L, -2);
        for (int i = 1; i <= count; i++) {
            push_random(L, depth - 1);
            lua_rawseti(L, -2, i);
        }
        return;
    default:
        lua_createtable(L, 0, 0);
        for (int i = 0; i < count; i++) {
            lua_pushfstring(L, "k%d", (int)(next_random() % 1000));
            push_random(L, depth - 1);
            lua_rawset(L, -3);
        }
        return;
    }
}

static void assert_same(lua_State *L, int a, int b)
{
    luaL_checkstack(L, 8, NULL);
    assert_int_equal(lua_type(L, a), lua_type(L, b));
    if (!lua_istable(L, a)) {
        assert_true(lua_rawequal(L, a, b));
        return;
    }
    assert_int_equal(lua_getmetatable(L, a), lua_getmetatable(L, b));
    lua_settop(L, b);
    size_t seen = 0, other = 0;
    for (lua_pushnil(L); lua_next(L, b); lua_pop(L, 1))
        other++;
    lua_pushnil(L);
    while (lua_next(L, a)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        int top = lua_gettop(L);
        assert_same(L, top - 1, top);
        lua_settop(L, top - 2);
        seen++;
    }
    assert_int_equal(seen, other);
}

static void random_values_come_back(void **state)
{
    lua_State *L = *state;
    char error[MOON_JSON_ERROR_SIZE] = "";
    struct moon_buf out = {0};
    for (int i = 0; i < 1500; i++) {
        push_random(L, 3);
        out.len = 0;
        if (moon_json_encode(L, 1, &out, error, sizeof(error)) != MOON_OK ||
            moon_json_decode(L, moon_buf_str(&out), error, sizeof(error)) !=
                MOON_OK)
            fail_msg("%s: %.*s", error, MOON_STR_ARG(moon_buf_str(&out)));
        assert_int_equal(lua_gettop(L), 2);
        assert_same(L, 1, 2);
        lua_settop(L, 0);
    }
    moon_buf_deinit(&out);
}

/* Damaged documents: anything but a crash, and the stack stays right. */
static void damaged_text_is_harmless(void **state)
{
    lua_State *L = *state;
    static const char text[] =
        "{\"a\":[1.5e-3,-0,true,false,null,\"\\u00e9\\ud834\\udd1e\\n\"],"
        "\"gr\xc3\xbcn\":{\"\xf0\x9d\x84\x9e\":[[],{},\"\"]}}";
    char error[MOON_JSON_ERROR_SIZE], damaged[sizeof(text)];
    for (int i = 0; i < 30000; i++) {
        memcpy(damaged, text, sizeof(text));
        for (uint64_t n = next_random() % 4 + 1; n > 0; n--) {
            size_t from = next_random() % (sizeof(text) - 1);
            size_t to = next_random() % (sizeof(text) - 1);
            damaged[to] =
                next_random() % 2 ? text[from] : (char)(next_random() & 0xff);
        }
        enum moon_err err = moon_json_decode(
            L, moon_str(damaged, sizeof(text) - 1), error, sizeof(error));
        assert_int_equal(lua_gettop(L), err == MOON_OK);
        lua_settop(L, 0);
    }
}

static DIR *open_corpus(char *path, size_t size)
{
    const char *root = getenv("MOONSHINE_CORPORA");
    if (root == NULL)
        root = MOON_SOURCE_DIR "/../shared/corpora";
    (void)snprintf(path, size, "%s/json", root);
    return opendir(path);
}

static bool read_whole(const char *path, struct moon_buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    char block[4096];
    size_t got;
    out->len = 0;
    while ((got = fread(block, 1, sizeof(block), file)) > 0)
        moon_buf_add(out, block, got);
    return fclose(file) == 0;
}

static void corpus(void **state)
{
    lua_State *L = *state;
    char folder[1024], path[2048], error[MOON_JSON_ERROR_SIZE];
    DIR *dir = open_corpus(folder, sizeof(folder));
    if (dir == NULL) {
        print_message("skipped: no JSONTestSuite in %s\n", folder);
        skip();
        return;
    }
    struct moon_buf text = {0}, out = {0};
    int files = 0, wrong = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char expect = entry->d_name[0];
        if (strstr(entry->d_name, ".json") == NULL)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        assert_true(read_whole(path, &text));
        enum moon_err err =
            moon_json_decode(L, moon_buf_str(&text), error, sizeof(error));
        if ((expect == 'y' && err != MOON_OK) ||
            (expect == 'n' && err == MOON_OK)) {
            print_message("wrong: %s: %s\n", entry->d_name,
                          err == MOON_OK ? "accepted" : error);
            wrong++;
        }
        /* what was read can be written and read again */
        if (err == MOON_OK) {
            out.len = 0;
            assert_int_equal(moon_json_encode(L, 1, &out, error, sizeof(error)),
                             MOON_OK);
            assert_int_equal(
                moon_json_decode(L, moon_buf_str(&out), error, sizeof(error)),
                MOON_OK);
            assert_same(L, 1, 2);
        }
        lua_settop(L, 0);
        files++;
    }
    (void)closedir(dir);
    moon_buf_deinit(&text);
    moon_buf_deinit(&out);
    print_message("JSONTestSuite: %d files\n", files);
    assert_int_equal(wrong, 0);
    assert_true(files > 0);
}

#define JSON_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_state, close_state)

/* cmocka writes through the pointer but not into what it points to. */
#define LUA_TEST(name)                                                        \
    {                                                                         \
        name, lua_test, open_lua_test, close_state, (void *)(uintptr_t)(name) \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        LUA_TEST("encode_plain_values"),
        LUA_TEST("encode_strings"),
        LUA_TEST("encode_numbers"),
        LUA_TEST("encode_lists"),
        LUA_TEST("encode_errors_name_the_path"),
        LUA_TEST("depth_is_limited_both_ways"),
        LUA_TEST("decode_values"),
        LUA_TEST("decode_numbers"),
        LUA_TEST("decode_strings"),
        LUA_TEST("decode_errors_tell_where"),
        LUA_TEST("array_mark"),
        JSON_TEST(c_interface),
        JSON_TEST(no_read_behind_the_end),
        cmocka_unit_test(lua_out_of_memory),
        cmocka_unit_test(random_digits_are_rounded_once),
        cmocka_unit_test(random_numbers_come_back),
        JSON_TEST(random_values_come_back),
        JSON_TEST(damaged_text_is_harmless),
        JSON_TEST(corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
