#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void moon_buf_deinit(struct moon_buf *buf)
{
    free(buf->ptr);
    *buf = (struct moon_buf){.max_kib = buf->max_kib};
}

/* The slow path of reserve. */
char *moon_buf_grow(struct moon_buf *buf, size_t more)
{
    if (MOON_UNLIKELY(buf->failed))
        return NULL;
    if (MOON_LIKELY(more <= buf->cap - buf->len && buf->ptr != NULL))
        return buf->ptr + buf->len;
    size_t most = buf->max_kib == 0 ? SIZE_MAX / 4 : (size_t)buf->max_kib << 10;
    if (buf->len > most || more > most - buf->len) {
        buf->failed = true;
        return NULL;
    }
    size_t cap = buf->cap < 128 ? 128 : buf->cap;
    while (cap < buf->len + more)
        cap += cap / 2;
    char *ptr = realloc(buf->ptr, cap);
    if (ptr == NULL) {
        buf->failed = true;
        return NULL;
    }
    buf->ptr = ptr;
    buf->cap = cap;
    return ptr + buf->len;
}

void moon_buf_add_u64(struct moon_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    moon_buf_add(buf, digits + at, sizeof(digits) - at);
}

void moon_buf_vprintf(struct moon_buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (need < 0) {
        buf->failed = true;
        return;
    }
    char *to = moon_buf_reserve(buf, (size_t)need + 1);
    if (to != NULL) {
        (void)vsnprintf(to, (size_t)need + 1, fmt, args);
        buf->len += (size_t)need;
    }
}

void moon_buf_printf(struct moon_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    moon_buf_vprintf(buf, fmt, args);
    va_end(args);
}

static const struct {
    char text[7];
    unsigned char len; /* 0: stands for itself */
} html[256] = {
    ['&'] = {"&amp;", 5},  ['<'] = {"&lt;", 4},   ['>'] = {"&gt;", 4},
    ['"'] = {"&quot;", 6}, ['\''] = {"&#39;", 5},
};

size_t moon_html_plain(struct moon_str s)
{
    const unsigned char *at = (const unsigned char *)s.ptr;
    size_t i = 0;
    /* Eight at a time, without a way out in between: half the work. */
    while (s.len - i >= 8) {
        unsigned special = 0;
        for (size_t k = 0; k < 8; k++)
            special |= html[at[i + k]].len;
        if (special != 0)
            break;
        i += 8;
    }
    while (i < s.len && html[at[i]].len == 0)
        i++;
    return i;
}

void moon_buf_add_html(struct moon_buf *buf, struct moon_str s)
{
    while (s.len > 0) {
        size_t plain = moon_html_plain(s);
        moon_buf_add(buf, s.ptr, plain);
        if (plain < s.len) {
            unsigned char ch = (unsigned char)s.ptr[plain++];
            moon_buf_add(buf, html[ch].text, html[ch].len);
        }
        s = moon_str(s.ptr + plain, s.len - plain);
    }
}

/* Of eight bytes at once: a bit set somewhere if one of them is a control, a
 * quote, a backslash, DEL or beyond ASCII. */
static uint64_t json_special(uint64_t word)
{
    const uint64_t ones = UINT64_MAX / 255, high = ones << 7;
    uint64_t quote = word ^ (ones * '"'), back = word ^ (ones * '\\');
    uint64_t del = word ^ (ones * 0x7f);
    return ((word - ones * 0x20) | (quote - ones) | (back - ones) |
            (del - ones) | word) &
           high;
}

/* How many bytes from the start a JSON string takes as they are; some that it
 * would take may be left over. */
static size_t json_plain(const char *at, size_t len)
{
    size_t i = 0;
    while (len - i >= 8 && json_special(moon_load_le64(at + i)) == 0)
        i += 8;
    while (i < len && at[i] >= 0x20 && at[i] < 0x7f && at[i] != '"' &&
           at[i] != '\\')
        i++;
    return i;
}

static void add_json_code(struct moon_buf *buf, const unsigned char *at,
                          size_t len)
{
    uint32_t code = moon_utf8_decode(at, len);
    if (!moon_utf8_misleads(code))
        moon_buf_add(buf, at, len);
    else if (code < 0x10000)
        moon_buf_printf(buf, "\\u%04x", code);
    else
        moon_buf_printf(buf, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10),
                        0xdc00 + (code & 0x3ff));
}

/* One character that is not plain; how many bytes it takes. */
static size_t add_json_char(struct moon_buf *buf, const unsigned char *at,
                            size_t left)
{
    size_t len = moon_utf8_len(at, left);
    if (*at == '"' || *at == '\\') {
        char text[2] = {'\\', (char)*at};
        moon_buf_add(buf, text, 2);
    } else if (*at == '\n') {
        moon_buf_add(buf, "\\n", 2);
    } else if (len == 0) {
        moon_buf_add(buf, "\\ufffd", 6);
    } else {
        add_json_code(buf, at, len);
    }
    return len == 0 ? 1 : len;
}

void moon_buf_add_json(struct moon_buf *buf, struct moon_str s)
{
    const unsigned char *bytes = (const unsigned char *)s.ptr;
    moon_buf_add_char(buf, '"');
    for (size_t i = 0; i < s.len;) {
        size_t plain = json_plain(s.ptr + i, s.len - i);
        moon_buf_add(buf, bytes + i, plain);
        i += plain;
        if (i < s.len)
            i += add_json_char(buf, bytes + i, s.len - i);
    }
    moon_buf_add_char(buf, '"');
}

void moon_buf_add_shown(struct moon_buf *buf, struct moon_str s)
{
    const unsigned char *at = (const unsigned char *)s.ptr;
    for (size_t i = 0; i < s.len;) {
        size_t len = moon_utf8_len(at + i, s.len - i);
        if (len > 0 && !moon_utf8_misleads(moon_utf8_decode(at + i, len))) {
            moon_buf_add(buf, at + i, len);
            i += len;
            continue;
        }
        for (size_t end = i + (len == 0 ? 1 : len); i < end; i++)
            moon_buf_printf(buf, "\\x%02x", at[i]);
    }
}
