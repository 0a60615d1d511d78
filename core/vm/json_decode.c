#include "vm/json.h"

#include "vm/json_number.h"
#include "vm/json_text.h"

#include <stdio.h>

/* Elements and pairs wait on the Lua stack until a table ends or this many are
 * there, so that small tables are made at their final size. */
#define BATCH 16

/* Unescaped text up to this size is built on the C stack. */
#define SMALL_TEXT 256

struct decoder {
    lua_State *L;
    const unsigned char *start, *at, *end;
    const char *problem; /* static text, set by fail */
    int depth;
    int array_mark; /* stack slot of the metatable */
};

static bool decode_value(struct decoder *d);

/* The problem is at d->at. */
static bool fail(struct decoder *d, const char *problem)
{
    d->problem = problem;
    return false;
}

static inline void skip_space(struct decoder *d)
{
    while (d->at < d->end && (*d->at == ' ' || *d->at == '\n' ||
                              *d->at == '\r' || *d->at == '\t'))
        d->at++;
}

/* The next byte that is not space, without taking it; -1 at the end. */
static inline int peek(struct decoder *d)
{
    skip_space(d);
    return d->at < d->end ? *d->at : -1;
}

static bool read_hex4(struct decoder *d, uint32_t *out)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++, d->at++) {
        int b = d->at < d->end ? *d->at : 0;
        int digit;
        if (b >= '0' && b <= '9')
            digit = b - '0';
        else if ((b | 0x20) >= 'a' && (b | 0x20) <= 'f')
            digit = (b | 0x20) - 'a' + 10;
        else
            return fail(d, "expected four hex digits after \\u");
        value = value * 16 + (uint32_t)digit;
    }
    *out = value;
    return true;
}

/* Behind "\u"; one half of a surrogate pair is followed by the other. */
static bool read_code_point(struct decoder *d, uint32_t *out)
{
    uint32_t high, low;
    if (!read_hex4(d, &high))
        return false;
    *out = high;
    if (high < 0xd800 || high > 0xdfff)
        return true;
    if (high > 0xdbff || d->end - d->at < 2 || d->at[0] != '\\' ||
        d->at[1] != 'u')
        return fail(d, "lone surrogate in a string");
    d->at += 2;
    if (!read_hex4(d, &low))
        return false;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(d, "lone surrogate in a string");
    *out = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (c & 0x3f));
    return to;
}

/* At a backslash. */
static bool read_escape(struct decoder *d, char **to)
{
    static const char names[] = "\"\\/bfnrt";
    static const char bytes[] = "\"\\/\b\f\n\r\t";
    d->at++;
    int b = d->at < d->end ? *d->at : 0;
    if (b == 'u') {
        uint32_t code_point = 0;
        d->at++;
        if (!read_code_point(d, &code_point))
            return false;
        *to = put_utf8(*to, code_point);
        return true;
    }
    const char *name = b != 0 ? strchr(names, b) : NULL;
    if (name == NULL)
        return fail(d, "no such escape in a string");
    *(*to)++ = bytes[name - names];
    d->at++;
    return true;
}

/* Moves over plain bytes and UTF-8 up to a quote or a backslash. */
static bool skip_text(struct decoder *d)
{
    for (;;) {
        const unsigned char *at = d->at, *end = d->end;
        while (end - at >= 8 && moon_json_is_plain8(at))
            at += 8;
        while (at < end && moon_json_plain[*at])
            at++;
        d->at = at;
        if (at == end)
            return fail(d, "the string has no end");
        if (*d->at == '"' || *d->at == '\\')
            return true;
        if (*d->at < 0x20)
            return fail(d, "control character in a string");
        size_t run = moon_utf8_len(d->at, (size_t)(d->end - d->at));
        if (run == 0)
            return fail(d, "bytes that are not UTF-8 in a string");
        d->at += run;
    }
}

/* Writes the string that began at `from`, and whose first backslash d->at is
 * on, to `to`; stops on the closing quote. */
static bool unescape(struct decoder *d, const unsigned char *from, char *to,
                     size_t *len)
{
    char *begin = to;
    for (;;) {
        size_t run = (size_t)(d->at - from);
        memcpy(to, from, run);
        to += run;
        if (*d->at == '"')
            break;
        if (!read_escape(d, &to))
            return false;
        from = d->at;
        if (!skip_text(d))
            return false;
    }
    *len = (size_t)(to - begin);
    return true;
}

/* Like decode_text, for a string with escapes; d->at is on the first. */
static bool decode_escaped(struct decoder *d, const unsigned char *from)
{
    /* No escape is shorter than what it stands for, so the length as written
     * is room enough. A wrong end only matters to a string that has none. */
    const unsigned char *close = d->at;
    while (close < d->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    size_t size = (size_t)((close < d->end ? close : d->end) - from);
    char small[SMALL_TEXT];
    size_t len;
    if (size <= sizeof(small)) {
        if (!unescape(d, from, small, &len))
            return false;
        lua_pushlstring(d->L, small, len);
    } else {
        /* Owned by Lua, because the push below may raise. */
        char *large = lua_newuserdata(d->L, size);
        if (!unescape(d, from, large, &len))
            return false;
        lua_pushlstring(d->L, large, len);
        lua_replace(d->L, -2);
    }
    d->at++;
    return true;
}

/* At the opening quote; leaves the string on the stack. */
static bool decode_text(struct decoder *d)
{
    const unsigned char *from = ++d->at;
    if (!skip_text(d))
        return false;
    if (*d->at == '\\')
        return decode_escaped(d, from);
    lua_pushlstring(d->L, (const char *)from, (size_t)(d->at - from));
    d->at++;
    return true;
}

static bool decode_number(struct decoder *d)
{
    const char *at = (const char *)d->at;
    double value = 0;
    enum moon_json_number found =
        moon_json_number_read(&at, (const char *)d->end, &value);
    if (found == MOON_JSON_NUMBER_RANGE)
        return fail(d, "number out of range");
    d->at = (const unsigned char *)at;
    if (found == MOON_JSON_NUMBER_MALFORMED)
        return fail(d, "expected a digit");
    lua_pushnumber(d->L, value);
    return true;
}

static bool decode_word(struct decoder *d, const char *word, size_t len)
{
    if ((size_t)(d->end - d->at) < len || memcmp(d->at, word, len) != 0)
        return fail(d, "expected a value");
    d->at += len;
    return true;
}

/* Behind an element: takes ',' (*more) or the closing byte. */
static bool decode_separator(struct decoder *d, int close, const char *expected,
                             bool *more)
{
    int b = peek(d);
    if (b != ',' && b != close)
        return fail(d, expected);
    d->at++;
    *more = b == ',';
    return true;
}

/* Opens a list or an object: one level deeper, with stack for a batch. */
static bool enter(struct decoder *d)
{
    if (d->depth >= MOON_JSON_MAX_DEPTH)
        return fail(d, "nested too deeply");
    if (!lua_checkstack(d->L, 2 * BATCH + 8))
        return fail(d, "nested too deeply for this stack");
    d->depth++;
    d->at++;
    return true;
}

/* Stack: `count` elements above `base`. Leaves the list that has them. */
static void collect_list(lua_State *L, int base, int count)
{
    lua_createtable(L, count, 0);
    lua_insert(L, base + 1);
    for (int i = count; i > 0; i--)
        lua_rawseti(L, base + 1, i);
}

static bool decode_list(struct decoder *d)
{
    lua_State *L = d->L;
    int base = lua_gettop(L);
    if (!enter(d))
        return false;
    int count = 0;
    bool more = peek(d) != ']';
    d->at += !more;
    while (more) {
        if (!decode_value(d))
            return false;
        count++;
        if (count > BATCH)
            lua_rawseti(L, base + 1, count);
        else if (count == BATCH)
            collect_list(L, base, count);
        if (!decode_separator(d, ']', "expected ',' or ']'", &more))
            return false;
    }
    if (count < BATCH)
        collect_list(L, base, count);
    lua_pushvalue(L, d->array_mark);
    lua_setmetatable(L, base + 1);
    d->depth--;
    return true;
}

/* Stack: `count` pairs above `base`. Leaves the table that has them; in their
 * order, because the last of equal keys wins. */
static void collect_object(lua_State *L, int base, int count)
{
    lua_createtable(L, 0, count);
    for (int i = 0; i < count; i++) {
        lua_pushvalue(L, base + 1 + 2 * i);
        lua_pushvalue(L, base + 2 + 2 * i);
        lua_rawset(L, -3);
    }
    if (count > 0) {
        lua_replace(L, base + 1);
        lua_settop(L, base + 1);
    }
}

static bool decode_object(struct decoder *d)
{
    lua_State *L = d->L;
    int base = lua_gettop(L);
    if (!enter(d))
        return false;
    int count = 0;
    bool more = peek(d) != '}';
    d->at += !more;
    while (more) {
        if (peek(d) != '"')
            return fail(d, "expected a key in quotes");
        if (!decode_text(d))
            return false;
        if (peek(d) != ':')
            return fail(d, "expected ':'");
        d->at++;
        if (!decode_value(d))
            return false;
        count++;
        if (count > BATCH)
            lua_rawset(L, base + 1);
        else if (count == BATCH)
            collect_object(L, base, count);
        if (!decode_separator(d, '}', "expected ',' or '}'", &more))
            return false;
    }
    if (count < BATCH)
        collect_object(L, base, count);
    d->depth--;
    return true;
}

/* Leaves one value on the stack, or false and any number of them. */
static bool decode_value(struct decoder *d)
{
    int b = peek(d);
    switch (b) {
    case '"':
        return decode_text(d);
    case '{':
        return decode_object(d);
    case '[':
        return decode_list(d);
    case 't':
        lua_pushboolean(d->L, 1);
        return decode_word(d, "true", 4);
    case 'f':
        lua_pushboolean(d->L, 0);
        return decode_word(d, "false", 5);
    case 'n':
        lua_pushlightuserdata(d->L, NULL);
        return decode_word(d, "null", 4);
    default:
        break;
    }
    if (b == '-' || (b >= '0' && b <= '9'))
        return decode_number(d);
    return fail(d, "expected a value");
}

static bool decode_document(struct decoder *d)
{
    if (d->end - d->at >= 3 && memcmp(d->at, "\xef\xbb\xbf", 3) == 0)
        return fail(d, "a byte order mark is not allowed");
    if (!decode_value(d))
        return false;
    return peek(d) == -1 || fail(d, "expected nothing behind the value");
}

static void describe(const struct decoder *d, char *error, size_t error_size)
{
    size_t line = 1, column = 1;
    for (const unsigned char *p = d->start; p < d->at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if ((*p & 0xc0) != 0x80) { /* characters, not bytes */
            column++;
        }
    }
    (void)snprintf(error, error_size, "line %zu, column %zu: %s", line, column,
                   d->problem);
}

enum moon_err moon_json_decode(lua_State *L, struct moon_str text, char *error,
                               size_t error_size)
{
    const unsigned char *bytes = (const unsigned char *)text.ptr;
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 8)) {
        (void)snprintf(error, error_size, "the Lua stack is full");
        return MOON_ENOMEM;
    }
    moon_json_push_array_mark(L);
    struct decoder d = {.L = L,
                        .start = bytes,
                        .at = bytes,
                        .end = bytes + text.len,
                        .array_mark = top + 1};
    if (!decode_document(&d)) {
        describe(&d, error, error_size);
        lua_settop(L, top);
        return MOON_EPROTO;
    }
    lua_replace(L, top + 1);
    return MOON_OK;
}
