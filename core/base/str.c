#include "base/str.h"

#include "base/compiler.h"

static const uint64_t ONES = 0x0101010101010101;

static unsigned char lower(char ch)
{
    unsigned char byte = (unsigned char)ch;
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte | 0x20) : byte;
}

/* Eight bytes at once: the highest bit of each byte that is a capital letter,
 * moved to where the cases differ. */
static uint64_t lower8(uint64_t bytes)
{
    uint64_t low = bytes & 0x7f * ONES;
    uint64_t from_a = low + (0x80 - 'A') * ONES;
    uint64_t above_z = low + (0x7f - 'Z') * ONES;
    return bytes | (from_a & ~above_z & ~bytes & 0x80 * ONES) >> 2;
}

static bool eq8_nocase(const char *a, const char *b)
{
    uint64_t x = moon_load_le64(a), y = moon_load_le64(b);
    return x == y || lower8(x) == lower8(y);
}

bool moon_bytes_eq_nocase(const char *a, const char *b, size_t len)
{
    if (len >= 8) {
        size_t last = len - 8; /* may overlap what is compared already */
        for (size_t i = 0; i < last; i += 8) {
            if (!eq8_nocase(a + i, b + i))
                return false;
        }
        return eq8_nocase(a + last, b + last);
    }
    for (size_t i = 0; i < len; i++) {
        if (lower(a[i]) != lower(b[i]))
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
    enum { SURE = 19 }; /* so many digits are never too large */
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint64_t digit = (uint64_t)(unsigned char)s.ptr[i] - '0';
        if (digit > 9 || (i >= SURE && value > (UINT64_MAX - digit) / 10))
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

uint32_t moon_utf8_decode(const unsigned char *s, size_t len)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = s[0] & first[len];
    for (size_t i = 1; i < len; i++)
        code = code << 6 | (s[i] & 0x3f);
    return code;
}

bool moon_utf8_misleads(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0, 0x1f},        {0x7f, 0x9f},       {0xad, 0xad},
        {0x61c, 0x61c},   {0x180e, 0x180e},   {0x200b, 0x200f},
        {0x2028, 0x202e}, {0x2060, 0x206f},   {0xfeff, 0xfeff},
        {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
    };
    for (size_t i = 0; i < MOON_COUNT(ranges); i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    }
    return false;
}
