#include "http/token.h"

#include "base/compiler.h"

/* Rows of 16 bytes, from 0x00; each entry is a set of moon_char_class. */
const uint8_t moon_char_table[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  31, 2,  19, 31, 23,
    31, 31, 30, 30, 31, 31, 14, 95, 95, 18, 95, 95, 95, 95, 95, 95, 95, 95, 95,
    95, 26, 14, 18, 30, 18, 18, 18, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95,
    95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 18, 2,  18, 19,
    95, 19, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95, 95,
    95, 95, 95, 95, 95, 95, 95, 95, 95, 18, 19, 18, 95, 0,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,
};

bool moon_str_is(struct moon_str s, enum moon_char_class which)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!moon_char_is(s.ptr[i], which))
            return false;
    }
    return true;
}

/* Where the element at the start of `s` ends: at a comma outside quotes. */
static size_t element_end(struct moon_str s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.len; i++) {
        if (quoted && s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == '"')
            quoted = !quoted;
        else if (s.ptr[i] == ',' && !quoted)
            return i;
    }
    return s.len;
}

bool moon_list_next(struct moon_str *rest, struct moon_str *element)
{
    while (rest->len > 0) {
        size_t end = element_end(*rest);
        *element = moon_str_trim(moon_str(rest->ptr, end));
        size_t skip = end < rest->len ? end + 1 : end;
        *rest = moon_str(rest->ptr + skip, rest->len - skip);
        if (element->len > 0)
            return true;
    }
    return false;
}
