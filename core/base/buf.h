/* A growing byte buffer, owned by whoever holds the struct.
 *
 * Failure is sticky: once memory is out, `failed` stays set and later appends
 * do nothing, so a writer checks once at its end. Zero-initialised is a valid
 * empty buffer. */
#ifndef MOON_BASE_BUF_H
#define MOON_BASE_BUF_H

#include "base/compiler.h"
#include "base/str.h"

#include <stdarg.h>

struct moon_buf {
    char *ptr;
    size_t len, cap;
    uint32_t max_kib; /* growing beyond this fails; 0: no limit */
    bool failed;
};

/* Frees; empty and usable again, with the same limit. */
void moon_buf_deinit(struct moon_buf *buf);

/* Empty, and usable again if it had failed; keeps its memory. What is used
 * again and again is cleared, not cut: or one failure would be for ever. */
static inline void moon_buf_clear(struct moon_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

/* Room for `more` bytes behind len, or NULL (and failed). The caller writes
 * there and adds to len itself. */
MOON_COLD char *moon_buf_grow(struct moon_buf *buf, size_t more);
static inline char *moon_buf_reserve(struct moon_buf *buf, size_t more)
{
    if (MOON_LIKELY(more <= buf->cap - buf->len && buf->ptr != NULL &&
                    !buf->failed))
        return buf->ptr + buf->len;
    return moon_buf_grow(buf, more);
}

static inline void moon_buf_add(struct moon_buf *buf, const void *bytes,
                                size_t len)
{
    char *to = moon_buf_reserve(buf, len);
    if (MOON_LIKELY(to != NULL) && len > 0) {
        memcpy(to, bytes, len);
        buf->len += len;
    }
}

static inline void moon_buf_add_str(struct moon_buf *buf, struct moon_str s)
{
    moon_buf_add(buf, s.ptr, s.len);
}

static inline void moon_buf_addz(struct moon_buf *buf, const char *z)
{
    moon_buf_add(buf, z, strlen(z));
}

static inline void moon_buf_add_char(struct moon_buf *buf, char ch)
{
    moon_buf_add(buf, &ch, 1);
}

void moon_buf_add_u64(struct moon_buf *buf, uint64_t value);
void moon_buf_printf(struct moon_buf *buf, const char *fmt, ...)
    MOON_PRINTF(2, 3);
void moon_buf_vprintf(struct moon_buf *buf, const char *fmt, va_list args)
    MOON_PRINTF(2, 0);

static inline struct moon_str moon_buf_str(const struct moon_buf *buf)
{
    return moon_str(buf->ptr, buf->len);
}

/* With & < > " ' as character references: safe in text and in quoted
 * attributes. */
void moon_buf_add_html(struct moon_buf *buf, struct moon_str s);
/* How many bytes at the start it would leave as they are. */
size_t moon_html_plain(struct moon_str s);

/* Text of a JSON string with its quotes; bytes that are not UTF-8 become
 * U+FFFD, and what misleads who reads it (moon_utf8_misleads) is escaped. */
void moon_buf_add_json(struct moon_buf *buf, struct moon_str s);
/* For a terminal or a line of text: what misleads, and bytes that are not
 * UTF-8, become \xNN. */
void moon_buf_add_shown(struct moon_buf *buf, struct moon_str s);

#endif
