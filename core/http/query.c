#include "http/query.h"

#include "http/token.h"

#include <stdio.h>

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    char low = (char)(ch | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* The byte that "%XX" at `s` stands for, -1 if it is no escape. */
static int escape_at(struct moon_str s)
{
    if (s.len < 3)
        return -1;
    int high = hex_digit(s.ptr[1]), low = hex_digit(s.ptr[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static bool needs_decoding(struct moon_str s, bool plus)
{
    return s.len > 0 && (memchr(s.ptr, '%', s.len) != NULL ||
                         (plus && memchr(s.ptr, '+', s.len) != NULL));
}

/* A bad escape is an error, or (`lenient`) stays as it is. */
static enum moon_err decode(struct moon_str in, bool plus, bool lenient,
                            struct moon_arena *arena, struct moon_str *out)
{
    *out = in;
    if (!needs_decoding(in, plus))
        return MOON_OK;
    char *text = moon_arena_alloc(arena, in.len);
    if (text == NULL)
        return MOON_ENOMEM;
    char *to = text;
    for (size_t i = 0; i < in.len; i++) {
        char ch = in.ptr[i];
        int byte = -1;
        if (ch == '%') {
            byte = escape_at(moon_str(in.ptr + i, in.len - i));
            if (byte < 0 && !lenient)
                return MOON_EPROTO;
        }
        if (byte >= 0) {
            *to++ = (char)byte;
            i += 2;
        } else {
            *to++ = plus && ch == '+' ? ' ' : ch;
        }
    }
    *out = moon_str(text, (size_t)(to - text));
    return MOON_OK;
}

enum moon_err moon_percent_decode(struct moon_str in, bool plus,
                                  struct moon_arena *arena,
                                  struct moon_str *out)
{
    return decode(in, plus, false, arena, out);
}

void moon_percent_encode(struct moon_str in, struct moon_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    char *to = moon_buf_reserve(out, in.len * 3);
    if (to == NULL)
        return;
    for (size_t i = 0; i < in.len; i++) {
        unsigned char byte = (unsigned char)in.ptr[i];
        if (moon_char_is(in.ptr[i], MOON_CHAR_UNRESERVED)) {
            *to++ = in.ptr[i];
        } else {
            *to++ = '%';
            *to++ = digits[byte >> 4];
            *to++ = digits[byte & 15];
        }
    }
    out->len = (size_t)(to - out->ptr);
}

bool moon_query_next(struct moon_str *rest, struct moon_arena *arena,
                     struct moon_str *name, struct moon_str *value)
{
    while (rest->len > 0) {
        struct moon_str pair = moon_str_cut(*rest, '&', rest);
        if (pair.len == 0)
            continue;
        struct moon_str after, before = moon_str_cut(pair, '=', &after);
        if (decode(before, true, true, arena, name) != MOON_OK ||
            decode(after, true, true, arena, value) != MOON_OK)
            *name = *value = MOON_STR_NONE;
        return true;
    }
    return false;
}

bool moon_cookie_next(struct moon_str *rest, struct moon_str *name,
                      struct moon_str *value)
{
    while (rest->len > 0) {
        struct moon_str pair = moon_str_cut(*rest, ';', rest);
        struct moon_str after;
        if (memchr(pair.ptr, '=', pair.len) == NULL)
            continue;
        *name = moon_str_trim(moon_str_cut(pair, '=', &after));
        *value = moon_str_trim(after);
        if (name->len == 0)
            continue;
        if (value->len >= 2 && value->ptr[0] == '"' &&
            value->ptr[value->len - 1] == '"')
            *value = moon_str(value->ptr + 1, value->len - 2);
        return true;
    }
    return false;
}

/* Path and Domain end at a semicolon. */
static bool is_attribute(struct moon_str s)
{
    return moon_str_is(s, MOON_CHAR_VALUE) &&
           (s.len == 0 || (memchr(s.ptr, ';', s.len) == NULL &&
                           memchr(s.ptr, '\t', s.len) == NULL));
}

static bool is_same_site(struct moon_str s)
{
    return s.len == 0 || moon_str_eq(s, MOON_STR("Strict")) ||
           moon_str_eq(s, MOON_STR("Lax")) || moon_str_eq(s, MOON_STR("None"));
}

static bool has_prefix(struct moon_str name, struct moon_str prefix)
{
    return name.len >= prefix.len &&
           moon_str_eq_nocase(moon_str(name.ptr, prefix.len), prefix);
}

/* What is not allowed about a cookie; NULL if nothing. Browsers drop most of
 * these silently, which is hard to find. */
static const char *fault_of(const struct moon_set_cookie *cookie)
{
    if (!moon_str_is_token(cookie->name))
        return "a cookie's name must be a token";
    if (!moon_str_is(cookie->value, MOON_CHAR_COOKIE))
        return "a cookie's value must not hold control bytes, spaces, quotes, "
               "commas, semicolons, backslashes or non-ASCII bytes";
    if (!is_attribute(cookie->path) || !is_attribute(cookie->domain))
        return "a cookie's path and domain must not hold control bytes or "
               "semicolons";
    if (!is_same_site(cookie->same_site))
        return "a cookie's same_site must be Strict, Lax or None";
    if (moon_str_eq(cookie->same_site, MOON_STR("None")) && !cookie->secure)
        return "same_site None needs secure";
    if (has_prefix(cookie->name, MOON_STR("__Secure-")) && !cookie->secure)
        return "a __Secure- cookie needs secure";
    if (has_prefix(cookie->name, MOON_STR("__Host-")) &&
        (!cookie->secure || cookie->domain.len > 0 ||
         !moon_str_eq(cookie->path, MOON_STR("/"))))
        return "a __Host- cookie needs secure, path / and no domain";
    return NULL;
}

static void put_attribute(struct moon_buf *out, const char *name,
                          struct moon_str value)
{
    if (value.len == 0)
        return;
    moon_buf_addz(out, name);
    moon_buf_add_str(out, value);
}

enum moon_err moon_set_cookie_write(const struct moon_set_cookie *cookie,
                                    struct moon_buf *out, char *error,
                                    size_t error_size)
{
    const char *fault = fault_of(cookie);
    if (fault != NULL) {
        (void)snprintf(error, error_size, "%s", fault);
        return MOON_EINVAL;
    }
    moon_buf_add_str(out, cookie->name);
    moon_buf_add_char(out, '=');
    moon_buf_add_str(out, cookie->value);
    if (cookie->max_age_s >= 0) {
        moon_buf_addz(out, "; Max-Age=");
        moon_buf_add_u64(out, (uint64_t)cookie->max_age_s);
    }
    put_attribute(out, "; Path=", cookie->path);
    put_attribute(out, "; Domain=", cookie->domain);
    if (cookie->secure)
        moon_buf_addz(out, "; Secure");
    if (cookie->http_only)
        moon_buf_addz(out, "; HttpOnly");
    put_attribute(out, "; SameSite=", cookie->same_site);
    return out->failed ? MOON_ENOMEM : MOON_OK;
}
