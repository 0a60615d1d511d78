#include "http/http_out.h"

#include "base/digits.h"
#include "http/negotiate.h"
#include "http/status.h"

#include <time.h>

enum {
    DATE_LINE = sizeof("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") - 1,
    /* Status line of any code, Date, the longest framing and Connection lines
     * and the empty one, with room to spare. */
    FIXED_BYTES = 256
};

static _Thread_local struct {
    time_t second;
    char line[DATE_LINE + 1];
} date_cache;

static char *put(char *to, const char *bytes, size_t len)
{
    memcpy(to, bytes, len);
    return to + len;
}

#define PUT(to, literal) put((to), (literal), sizeof(literal) - 1)

static char *put_str(char *to, struct moon_str s)
{
    return s.len == 0 ? to : put(to, s.ptr, s.len);
}

static char *put_date(char *to)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (MOON_UNLIKELY(now.tv_sec != date_cache.second ||
                      date_cache.line[0] == '\0')) {
        char text[30];
        moon_http_date_write(now.tv_sec, text);
        char *end = PUT(date_cache.line, "Date: ");
        end = put(end, text, 29);
        (void)PUT(end, "\r\n");
        date_cache.second = now.tv_sec;
    }
    return put(to, date_cache.line, DATE_LINE);
}

static char *put_status(char *to, int status)
{
    struct moon_str line = moon_status_line(status);
    if (MOON_LIKELY(line.ptr != NULL))
        return put_str(to, line);
    to = PUT(to, "HTTP/1.1 ");
    to = moon_put_u64(to, (uint64_t)status);
    return PUT(to, " Unknown\r\n");
}

static char *put_field(char *to, struct moon_str name, struct moon_str value)
{
    to = put_str(to, name);
    to = PUT(to, ": ");
    to = put_str(to, value);
    return PUT(to, "\r\n");
}

static char *put_framing(char *to, const struct moon_out_head *head)
{
    switch (head->framing) {
    case MOON_OUT_LENGTH:
        to = PUT(to, "Content-Length: ");
        to = moon_put_u64(to, head->content_length);
        return PUT(to, "\r\n");
    case MOON_OUT_CHUNKED:
        return PUT(to, "Transfer-Encoding: chunked\r\n");
    case MOON_OUT_NONE:
    case MOON_OUT_CLOSE:
        break;
    }
    return to;
}

static char *put_connection(char *to, const struct moon_response *res,
                            const struct moon_out_head *head)
{
    if (!head->keep_alive || res->close || head->framing == MOON_OUT_CLOSE)
        return PUT(to, "Connection: close\r\n");
    if (head->minor == 0)
        return PUT(to, "Connection: keep-alive\r\n");
    return to;
}

static size_t size_bound(const struct moon_response *res,
                         const struct moon_out_head *head)
{
    size_t bytes = FIXED_BYTES + head->content_type.len;
    for (uint32_t i = 0; i < res->field_count; i++)
        bytes += res->fields[i].name.len + res->fields[i].value.len + 4;
    return bytes;
}

void moon_http_out_head(struct moon_buf *out, const struct moon_response *res,
                        const struct moon_out_head *head)
{
    static const struct moon_str type_name = {"Content-Type", 12};
    char *start = moon_buf_reserve(out, size_bound(res, head));
    if (start == NULL)
        return;
    char *to = put_status(start, res->status == 0 ? 200 : res->status);
    to = put_date(to);
    bool typed = head->content_type.len == 0;
    for (uint32_t i = 0; i < res->field_count; i++) {
        const struct moon_out_field *field = &res->fields[i];
        to = put_field(to, field->name, field->value);
        if (!typed && field->name.len == type_name.len &&
            (field->name.ptr[0] | 0x20) == 'c')
            typed = moon_str_eq_nocase(field->name, type_name);
    }
    if (!typed)
        to = put_field(to, type_name, head->content_type);
    to = put_framing(to, head);
    to = put_connection(to, res, head);
    to = PUT(to, "\r\n");
    out->len += (size_t)(to - start);
}

void moon_http_out_chunk_begin(struct moon_buf *out, size_t len)
{
    char line[18];
    size_t at = sizeof(line);
    line[--at] = '\n';
    line[--at] = '\r';
    do {
        line[--at] = "0123456789abcdef"[len & 15];
        len >>= 4;
    } while (len != 0);
    moon_buf_add(out, line + at, sizeof(line) - at);
}
