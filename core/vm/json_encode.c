#include "vm/json.h"

#include "vm/json_number.h"
#include "vm/json_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* The innermost part of a path that an error names; what does not fit is
 * replaced by dots. */
#define PATH_SIZE 192
#define PATH_KEY_BYTES 48
#define UTF8_MAX 4
#define DOTS 3

/* Bytes that a string may grow by before the room is checked again; more than
 * the longest escape. */
#define SLACK 16

static const char mixed_keys[] =
    "cannot encode a table with both numbers and strings as keys";

struct encoder {
    lua_State *L;
    struct moon_buf *out;
    const void *array_mark; /* NULL until a metatable is met */
    int depth;
    bool lossy;
    bool path_cut;
    enum moon_err err;
    /* Filled from its end, key by key, while a failure travels up. */
    size_t path_at;
    char path[PATH_SIZE];
    char message[96];
};

static bool encode_value(struct encoder *e);

static bool MOON_PRINTF(2, 3) fail(struct encoder *e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(e->message, sizeof(e->message), fmt, args);
    va_end(args);
    e->err = MOON_EINVAL;
    return false;
}

static bool fail_memory(struct encoder *e)
{
    (void)fail(e, "out of memory");
    e->err = MOON_ENOMEM;
    return false;
}

/* Puts one step in front of the path. */
static void path_prepend(struct encoder *e, const char *step, size_t len)
{
    if (e->path_cut || len > e->path_at) {
        e->path_cut = true;
        return;
    }
    e->path_at -= len;
    memcpy(e->path + e->path_at, step, len);
}

static void path_index(struct encoder *e, double index)
{
    char step[MOON_JSON_NUMBER_SIZE + 2];
    size_t len = 0;
    step[len++] = '[';
    len += moon_json_number_write(index, step + len);
    step[len++] = ']';
    path_prepend(e, step, len);
}

static bool is_word(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = key[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && c != '_' && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return len > 0;
}

/* A key as readable text of at most PATH_KEY_BYTES: cut with dots when long,
 * without raw control bytes. Returns its length. */
static size_t printable_key(const char *key, size_t len, char *to)
{
    const unsigned char *s = (const unsigned char *)key;
    size_t at = 0;
    for (size_t i = 0; i < len;) {
        if (at + UTF8_MAX + DOTS > PATH_KEY_BYTES) {
            memset(to + at, '.', DOTS);
            return at + DOTS;
        }
        size_t run = moon_utf8_len(s + i, len - i);
        if (run == 0 || s[i] < 0x20 || s[i] == 0x7f || s[i] == '"') {
            to[at++] = '?';
            i++;
            continue;
        }
        memcpy(to + at, s + i, run);
        at += run;
        i += run;
    }
    return at;
}

static void path_key(struct encoder *e, const char *key, size_t len)
{
    char step[PATH_KEY_BYTES + 4];
    size_t at = 0;
    bool word = is_word(key, len);
    step[at++] = word ? '.' : '[';
    if (!word)
        step[at++] = '"';
    at += printable_key(key, len, step + at);
    if (!word) {
        step[at++] = '"';
        step[at++] = ']';
    }
    path_prepend(e, step, at);
}

/* Where at least `need` bytes fit, or NULL; the caller moves out->len. */
static inline char *room(struct encoder *e, size_t need)
{
    struct moon_buf *out = e->out;
    if (MOON_LIKELY(out->cap - out->len >= need && !out->failed))
        return out->ptr + out->len;
    char *to = moon_buf_reserve(out, need);
    if (to == NULL)
        (void)fail_memory(e);
    return to;
}

static inline bool put(struct encoder *e, const char *bytes, size_t len)
{
    char *to = room(e, len);
    if (MOON_UNLIKELY(to == NULL))
        return false;
    memcpy(to, bytes, len);
    e->out->len += len;
    return true;
}

static char *put_escape(char *to, unsigned char b)
{
    static const char hex[] = "0123456789abcdef";
    /* By control character; 'u' has no short form. */
    static const char shorts[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    *to++ = '\\';
    if (b >= 0x20) {
        *to++ = (char)b;
        return to;
    }
    *to++ = shorts[b];
    if (shorts[b] == 'u') {
        *to++ = '0';
        *to++ = '0';
        *to++ = hex[b >> 4];
        *to++ = hex[b & 15];
    }
    return to;
}

/* One byte, or one UTF-8 sequence, that is not plain. Returns how many bytes
 * of the text it took, 0 when they are refused. */
static size_t put_special(struct encoder *e, const unsigned char *s,
                          size_t left, char **to)
{
    if (*s < 0x80) {
        *to = put_escape(*to, *s);
        return 1;
    }
    size_t run = moon_utf8_len(s, left);
    if (MOON_UNLIKELY(run == 0)) {
        if (!e->lossy) {
            (void)fail(e, "cannot encode a string that is not UTF-8");
            return 0;
        }
        memcpy(*to, "\xef\xbf\xbd", 3); /* U+FFFD */
        *to += 3;
        return 1;
    }
    memcpy(*to, s, run);
    *to += run;
    return run;
}

/* The text in quotes, with `after` (0 for none) behind them. Room for the
 * text as it is and some growth is reserved at once; only growth beyond that
 * asks again. */
static bool encode_text(struct encoder *e, const char *text, size_t len,
                        char after)
{
    const unsigned char *s = (const unsigned char *)text;
    char *to = room(e, len + SLACK);
    if (MOON_UNLIKELY(to == NULL))
        return false;
    char *limit = e->out->ptr + e->out->cap - SLACK;
    *to++ = '"';
    for (;;) {
        for (; len >= 8 && moon_json_is_plain8(s); s += 8, to += 8, len -= 8)
            memcpy(to, s, 8);
        for (; len > 0 && moon_json_plain[*s]; len--)
            *to++ = (char)*s++;
        if (len == 0)
            break;
        size_t took = put_special(e, s, len, &to);
        if (MOON_UNLIKELY(took == 0))
            return false;
        s += took;
        len -= took;
        if (MOON_UNLIKELY((size_t)(limit - to) < len || to > limit)) {
            e->out->len = (size_t)(to - e->out->ptr);
            to = room(e, len + len / 8 + 4 * SLACK);
            if (to == NULL)
                return false;
            limit = e->out->ptr + e->out->cap - SLACK;
        }
    }
    *to++ = '"';
    if (after != 0)
        *to++ = after;
    e->out->len = (size_t)(to - e->out->ptr);
    return true;
}

static bool encode_number(struct encoder *e, double value)
{
    if (MOON_UNLIKELY(!isfinite(value)))
        return fail(e, "cannot encode %s", isnan(value) ? "NaN" : "infinity");
    char *to = room(e, MOON_JSON_NUMBER_SIZE);
    if (MOON_UNLIKELY(to == NULL))
        return false;
    e->out->len += moon_json_number_write(value, to);
    return true;
}

/* True if the table at the top of the stack carries the array mark. */
static bool is_marked(struct encoder *e)
{
    if (MOON_LIKELY(!lua_getmetatable(e->L, -1)))
        return false;
    const void *meta = lua_topointer(e->L, -1);
    lua_pop(e->L, 1);
    if (e->array_mark == NULL)
        e->array_mark = moon_json_array_mark(e->L);
    return meta == e->array_mark;
}

/* Stack: table, key. Takes the key; says why it may not be in a list. */
static bool fail_list_key(struct encoder *e, bool marked)
{
    size_t len;
    int type = lua_type(e->L, -1);
    if (type == LUA_TSTRING && marked) {
        const char *key = lua_tolstring(e->L, -1, &len);
        char shown[PATH_KEY_BYTES];
        int count = (int)printable_key(key, len, shown);
        (void)fail(e, "cannot encode an array with the key \"%.*s\"", count,
                   shown);
    } else if (type == LUA_TSTRING) {
        (void)fail(e, "%s", mixed_keys);
    } else if (type == LUA_TNUMBER) {
        double index = lua_tonumber(e->L, -1);
        (void)fail(e, "cannot encode an array whose indices are not 1 to n");
        path_index(e, isfinite(index) ? index : 0);
    } else {
        (void)fail(e, "cannot encode a %s as a key", lua_typename(e->L, type));
    }
    lua_pop(e->L, 1);
    return false;
}

/* Stack: table. Finds n when the keys are exactly 1 to n, in any order. */
static bool list_length(struct encoder *e, bool marked, int *out)
{
    lua_State *L = e->L;
    double max = 0, count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        double key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (!(key >= 1) || floor(key) != key)
            return fail_list_key(e, marked);
        max = key > max ? key : max;
        count++;
    }
    *out = (int)count;
    if (count == max)
        return true;
    int hole = 1;
    for (;; hole++) {
        lua_rawgeti(L, -1, hole);
        bool empty = lua_isnil(L, -1);
        lua_pop(L, 1);
        if (empty)
            break;
    }
    (void)fail(e, "cannot encode an array with a hole");
    path_index(e, hole);
    return false;
}

/* Stack: table. For lists whose elements are not stored in order. */
static bool encode_scattered_list(struct encoder *e, bool marked)
{
    int count;
    if (!list_length(e, marked, &count))
        return false;
    if (!put(e, "[", 1))
        return false;
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(e->L, -1, i);
        bool ok = encode_value(e);
        lua_pop(e->L, 1);
        if (!ok) {
            if (e->err == MOON_EINVAL)
                path_index(e, i);
            return false;
        }
        if (!put(e, ",", 1))
            return false;
    }
    e->out->ptr[e->out->len - 1] = ']';
    return true;
}

/* Stack: table, first key, first value; takes key and value. Lists are nearly
 * always stored in order, so one pass writes and checks. */
static bool encode_list(struct encoder *e, bool marked)
{
    lua_State *L = e->L;
    size_t start = e->out->len;
    if (!put(e, "[", 1)) {
        lua_pop(L, 2);
        return false;
    }
    double expected = 1;
    do {
        if (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) != expected) {
            lua_pop(L, 2);
            e->out->len = start;
            return encode_scattered_list(e, marked);
        }
        bool ok = encode_value(e);
        lua_pop(L, 1);
        if (MOON_UNLIKELY(!ok || !put(e, ",", 1))) {
            lua_pop(L, 1);
            if (e->err == MOON_EINVAL)
                path_index(e, expected);
            return false;
        }
        expected++;
    } while (lua_next(L, -2));
    e->out->ptr[e->out->len - 1] = ']';
    return true;
}

/* Stack: table, key, value; takes key and value. */
static bool fail_object_key(struct encoder *e)
{
    int type = lua_type(e->L, -2);
    lua_pop(e->L, 2);
    if (type == LUA_TNUMBER)
        return fail(e, "%s", mixed_keys);
    return fail(e, "cannot encode a %s as a key", lua_typename(e->L, type));
}

/* Stack: table, first key, first value; takes key and value. */
static bool encode_object(struct encoder *e, int key_type)
{
    lua_State *L = e->L;
    char open = '{';
    for (;;) {
        if (MOON_UNLIKELY(key_type != LUA_TSTRING))
            return fail_object_key(e);
        size_t len;
        const char *key = lua_tolstring(L, -2, &len);
        bool ok = put(e, &open, 1) && encode_text(e, key, len, ':') &&
                  encode_value(e);
        lua_pop(L, 1);
        if (MOON_UNLIKELY(!ok)) {
            if (e->err == MOON_EINVAL)
                path_key(e, key, len);
            lua_pop(L, 1);
            return false;
        }
        open = ',';
        if (!lua_next(L, -2))
            return put(e, "}", 1);
        key_type = lua_type(L, -2);
    }
}

static bool encode_table(struct encoder *e)
{
    lua_State *L = e->L;
    if (e->depth >= MOON_JSON_MAX_DEPTH)
        return fail(e,
                    "cannot encode more than %d tables within each other "
                    "(is there a cycle?)",
                    MOON_JSON_MAX_DEPTH);
    if (!lua_checkstack(L, 4))
        return fail_memory(e);
    bool marked = is_marked(e);
    lua_pushnil(L);
    if (!lua_next(L, -2))
        return put(e, marked ? "[]" : "{}", 2);
    e->depth++;
    int key_type = lua_type(L, -2);
    bool ok = marked || key_type == LUA_TNUMBER ? encode_list(e, marked)
                                                : encode_object(e, key_type);
    e->depth--;
    return ok;
}

/* Stack: value at the top, left there. */
static bool encode_value(struct encoder *e)
{
    lua_State *L = e->L;
    int type = lua_type(L, -1);
    size_t len;
    switch (type) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &len);
        return encode_text(e, text, len, 0);
    }
    case LUA_TNUMBER:
        return encode_number(e, lua_tonumber(L, -1));
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? put(e, "true", 4) : put(e, "false", 5);
    case LUA_TTABLE:
        return encode_table(e);
    case LUA_TNIL:
        return put(e, "null", 4);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL)
            return put(e, "null", 4);
        break;
    default:
        break;
    }
    return fail(e, "cannot encode %s", lua_typename(L, type));
}

static enum moon_err encode(lua_State *L, int index, struct moon_buf *out,
                            bool lossy, char *error, size_t error_size)
{
    struct encoder e;
    e.L = L;
    e.out = out;
    e.array_mark = NULL;
    e.depth = 0;
    e.lossy = lossy;
    e.path_cut = false;
    e.err = MOON_OK;
    e.path_at = PATH_SIZE;
    size_t start = out->len;
    bool ok;
    if (lua_checkstack(L, 4)) {
        lua_pushvalue(L, index);
        ok = encode_value(&e);
        lua_pop(L, 1);
    } else {
        ok = fail_memory(&e);
    }
    if (MOON_LIKELY(ok))
        return MOON_OK;
    out->len = start;
    size_t path_len = PATH_SIZE - e.path_at;
    (void)snprintf(error, error_size, "%s%s%s%.*s", e.message,
                   path_len > 0 ? " at " : "", e.path_cut ? "..." : "",
                   (int)path_len, e.path + e.path_at);
    return e.err;
}

enum moon_err moon_json_encode(lua_State *L, int index, struct moon_buf *out,
                               char *error, size_t error_size)
{
    return encode(L, index, out, false, error, error_size);
}

enum moon_err moon_json_encode_lossy(lua_State *L, int index,
                                     struct moon_buf *out, char *error,
                                     size_t error_size)
{
    return encode(L, index, out, true, error, error_size);
}
