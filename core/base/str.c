#include "base/str.h"

static unsigned char lower(char ch)
{
    unsigned char byte = (unsigned char)ch;
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte | 0x20) : byte;
}

bool moon_str_eq_nocase(struct moon_str a, struct moon_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.ptr[i]) != lower(b.ptr[i]))
            return false;
    }
    return true;
}

struct moon_str moon_str_trim(struct moon_str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

struct moon_str moon_str_cut(struct moon_str s, char sep, struct moon_str *rest)
{
    const char *at = s.len > 0 ? memchr(s.ptr, sep, s.len) : NULL;
    if (at == NULL) {
        *rest = moon_str(s.ptr + s.len, 0);
        return s;
    }
    size_t before = (size_t)(at - s.ptr);
    *rest = moon_str(at + 1, s.len - before - 1);
    return moon_str(s.ptr, before);
}

bool moon_str_to_u64(struct moon_str s, uint64_t *out)
{
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.ptr[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

size_t moon_utf8_len(const unsigned char *s, size_t left)
{
    unsigned char b = s[0];
    size_t need = b < 0x80   ? 1
                  : b < 0xc2 ? 0
                  : b < 0xe0 ? 2
                  : b < 0xf0 ? 3
                  : b < 0xf5 ? 4
                             : 0;
    if (need == 0 || need > left)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((b == 0xe0 && s[1] < 0xa0) || (b == 0xed && s[1] > 0x9f) ||
        (b == 0xf0 && s[1] < 0x90) || (b == 0xf4 && s[1] > 0x8f))
        return 0;
    return need;
}
