#include "json_oracle.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

struct scan {
    const char *at, *end;
    int depth;
};

static int next(const struct scan *s)
{
    return s->at < s->end ? (unsigned char)*s->at : -1;
}

static bool take(struct scan *s, char ch)
{
    if (next(s) != (unsigned char)ch)
        return false;
    s->at++;
    return true;
}

static void space(struct scan *s)
{
    while (next(s) == ' ' || next(s) == '\t' || next(s) == '\n' ||
           next(s) == '\r')
        s->at++;
}

static bool digits(struct scan *s)
{
    const char *from = s->at;
    while (next(s) >= '0' && next(s) <= '9')
        s->at++;
    return s->at > from;
}

static bool number(struct scan *s)
{
    char text[400];
    const char *from = s->at;
    (void)take(s, '-');
    if (!take(s, '0') && !digits(s))
        return false;
    if (take(s, '.') && !digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '-'))
            (void)take(s, '+');
        if (!digits(s))
            return false;
    }
    size_t len = (size_t)(s->at - from);
    char *copy = len < sizeof(text) ? text : malloc(len + 1);
    memcpy(copy, from, len);
    copy[len] = '\0';
    double value = strtod(copy, NULL);
    if (copy != text)
        free(copy);
    return isfinite(value);
}

/* Four hex digits; -1 if there are none. */
static long hex4(struct scan *s)
{
    char text[5] = "";
    for (int i = 0; i < 4; i++, s->at++) {
        if (next(s) < 0 || !isxdigit(next(s)))
            return -1;
        text[i] = *s->at;
    }
    return strtol(text, NULL, 16);
}

static bool escape(struct scan *s)
{
    int ch = next(s);
    if (ch <= 0)
        return false;
    s->at++;
    if (ch != 'u')
        return strchr("\"\\/bfnrt", ch) != NULL;
    long unit = hex4(s);
    if (unit < 0xd800 || unit > 0xdfff)
        return unit >= 0;
    if (unit > 0xdbff || !take(s, '\\') || !take(s, 'u'))
        return false;
    unit = hex4(s);
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* A character of more than one byte, behind its first. */
static bool utf8(struct scan *s, unsigned first)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc0 || first >= 0xf8)
        return false;
    uint32_t code = first & (0x3fu >> more);
    for (int i = 0; i < more; i++, s->at++) {
        if (next(s) < 0x80 || next(s) > 0xbf)
            return false;
        code = code << 6 | ((uint32_t)next(s) & 0x3f);
    }
    return code >= least[more] && code <= 0x10ffff &&
           (code < 0xd800 || code > 0xdfff);
}

static bool string(struct scan *s)
{
    if (!take(s, '"'))
        return false;
    for (;;) {
        int ch = next(s);
        if (ch < ' ')
            return false;
        s->at++;
        if (ch == '"')
            return true;
        if (ch == '\\' ? !escape(s) : ch >= 0x80 && !utf8(s, (unsigned)ch))
            return false;
    }
}

static bool value(struct scan *s);

static bool members(struct scan *s, char close, bool keys)
{
    s->at++;
    if (s->depth-- == 0)
        return false;
    space(s);
    bool more = !take(s, close);
    while (more) {
        space(s);
        if (keys) {
            if (!string(s))
                return false;
            space(s);
            if (!take(s, ':'))
                return false;
        }
        if (!value(s))
            return false;
        more = take(s, ',');
        if (!more && !take(s, close))
            return false;
    }
    s->depth++;
    return true;
}

static bool word(struct scan *s, const char *z)
{
    while (*z != '\0') {
        if (!take(s, *z++))
            return false;
    }
    return true;
}

static bool value(struct scan *s)
{
    space(s);
    int ch = next(s);
    bool good = ch == '{'   ? members(s, '}', true)
                : ch == '[' ? members(s, ']', false)
                : ch == '"' ? string(s)
                : ch == 't' ? word(s, "true")
                : ch == 'f' ? word(s, "false")
                : ch == 'n' ? word(s, "null")
                            : number(s);
    space(s);
    return good;
}

bool json_oracle_accepts(struct moon_str text, int depth)
{
    struct scan s = {text.ptr, text.ptr + text.len, depth};
    return value(&s) && s.at == s.end;
}
