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

void moon_buf_add_json(struct moon_buf *buf, struct moon_str s)
{
    const unsigned char *bytes = (const unsigned char *)s.ptr;
    moon_buf_add_char(buf, '"');
    for (size_t i = 0; i < s.len;) {
        unsigned char b = bytes[i];
        size_t len = moon_utf8_len(bytes + i, s.len - i);
        if (b == '"' || b == '\\') {
            moon_buf_add_char(buf, '\\');
            moon_buf_add_char(buf, (char)b);
        } else if (b == '\n') {
            moon_buf_add(buf, "\\n", 2);
        } else if (b < 0x20 || b == 0x7f) {
            moon_buf_printf(buf, "\\u%04x", b);
        } else if (len == 0) {
            moon_buf_add(buf, "\\ufffd", 6);
        } else {
            moon_buf_add(buf, bytes + i, len);
        }
        i += len == 0 ? 1 : len;
    }
    moon_buf_add_char(buf, '"');
}
