#include "http/body_in.h"

#include "base/compiler.h"

/* A chunk size has at most this many digits, leading zeros included. */
enum { SIZE_DIGITS = 15 };

enum part {
    PART_DATA,
    PART_LINE, /* a chunk size with its extensions and CRLF */
    PART_TRAILERS
};

enum pause { PAUSE_CHUNK_LINE, PAUSE_CHUNK_END, PAUSE_MESSAGE_END };

/* For a callback to return. */
static int fail(struct moon_body_in *body, uint16_t status, const char *why)
{
    body->status = status;
    body->why = why;
    return HPE_USER;
}

static int too_large(struct moon_body_in *body)
{
    return fail(body, 431, "chunk extensions or trailers too large");
}

/* Callbacks of llhttp. */

static int pause_at(llhttp_t *parser, enum pause where)
{
    struct moon_body_in *body = parser->data;
    body->paused_at = (uint8_t)where;
    return HPE_PAUSED;
}

static int on_chunk_line(llhttp_t *parser)
{
    return pause_at(parser, PAUSE_CHUNK_LINE);
}

/* The last chunk ends with the message, where no byte is left to go on with. */
static int on_chunk_end(llhttp_t *parser)
{
    struct moon_body_in *body = parser->data;
    return body->part == PART_TRAILERS ? 0 : pause_at(parser, PAUSE_CHUNK_END);
}

static int on_message_end(llhttp_t *parser)
{
    return pause_at(parser, PAUSE_MESSAGE_END);
}

static int on_data(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_body_in *body = parser->data;
    body->decoded_bytes += len;
    if (len == 0 || body->sink == NULL ||
        body->sink(body->sink_ctx, moon_str(at, len)) == MOON_OK)
        return 0;
    return fail(body, 0, "the body was refused");
}

/* Keeps the start of a name that may come in pieces. Is it complete? */
static bool gather_name(struct moon_body_in *body, const char *at, size_t len)
{
    if (!body->open)
        body->name_len = 0;
    size_t room = sizeof(body->name) - body->name_len;
    size_t kept = len < room ? len : room;
    memcpy(body->name + body->name_len, at, kept);
    body->name_len = (uint8_t)(body->name_len + kept);
    body->open = at + len == body->feed_end;
    return !body->open;
}

static int on_extension(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_body_in *body = parser->data;
    if (body->extension_at == 0)
        body->extension_at =
            (uint32_t)(body->part_bytes + (uint64_t)(at - body->feed_at));
    if (gather_name(body, at, len) && body->name_len == 0)
        return fail(body, 400, "a chunk extension without a name");
    return 0;
}

/* llhttp lets DEL through between quotes. Behind an unquoted value it takes a
 * semicolon without an extension, and only that. */
static int on_extension_value(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_body_in *body = parser->data;
    bool quoted = len > 0 && at[len - 1] == '"';
    if (memchr(at, 0x7f, len) != NULL ||
        (!quoted && at + len < body->feed_end && at[len] == ';'))
        body->bad_extension = true;
    return 0;
}

/* Fields that would change framing or routing after the fact (RFC 9110 section
 * 6.5.1). */
static bool is_forbidden(struct moon_str name)
{
    return moon_str_eq_nocase(name, MOON_STR("content-length")) ||
           moon_str_eq_nocase(name, MOON_STR("transfer-encoding")) ||
           moon_str_eq_nocase(name, MOON_STR("host"));
}

static int on_trailer(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_body_in *body = parser->data;
    if (!gather_name(body, at, len))
        return 0;
    if (at[len] != ':' || body->name_len == 0)
        return fail(body, 400, "malformed trailer field");
    if (is_forbidden(moon_str(body->name, body->name_len)))
        return fail(body, 400, "a trailer that belongs in the head");
    if (body->trailers == body->trailer_limit)
        return fail(body, 431, "too many trailer fields");
    body->trailers++;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_body = on_data,
    .on_chunk_header = on_chunk_line,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension_value,
    .on_chunk_complete = on_chunk_end,
    .on_header_field = on_trailer,
    .on_message_complete = on_message_end,
};

void moon_body_in_start(struct moon_body_in *body, llhttp_t *parser,
                        uint32_t extra_limit, uint32_t trailer_limit)
{
    bool chunked = (parser->flags & F_CHUNKED) != 0;
    parser->settings = (void *)(uintptr_t)&settings;
    parser->data = body;
    *body = (struct moon_body_in){.parser = parser,
                                  .sink = body->sink,
                                  .sink_ctx = body->sink_ctx,
                                  .part = chunked ? PART_LINE : PART_DATA,
                                  .extra_left = extra_limit,
                                  .trailer_limit = trailer_limit};
}

/* How far llhttp may read before a bound is passed, at most `end`. */
static const char *readable_until(const struct moon_body_in *body,
                                  const char *at, const char *end)
{
    if (body->part == PART_DATA)
        return end;
    uint64_t max = body->extra_left;
    if (body->part == PART_LINE)
        max += SIZE_DIGITS + sizeof(";\r\n") - 1;
    else
        max += 2 * ((uint64_t)body->trailer_limit + 1);
    uint64_t left = max - body->part_bytes;
    return (uint64_t)(end - at) < left ? end : at + left;
}

static void count(struct moon_body_in *body, const char *at, const char *end)
{
    if (body->part != PART_DATA)
        body->part_bytes += (uint64_t)(end - at);
    if (body->part != PART_TRAILERS)
        return;
    for (; at < end; at++) {
        body->cr_count += *at == '\r';
        body->lf_count += *at == '\n';
    }
}

static void start_part(struct moon_body_in *body, enum part part)
{
    body->part = (uint8_t)part;
    body->part_bytes = 0;
    body->extension_at = 0;
}

static bool spend_extra(struct moon_body_in *body, uint64_t bytes)
{
    if (bytes > body->extra_left)
        return too_large(body) == 0;
    body->extra_left -= (uint32_t)bytes;
    return true;
}

static bool chunk_line_complete(struct moon_body_in *body)
{
    uint64_t bytes = body->part_bytes - 2;
    uint64_t digits = bytes, extra = 0;
    if (body->extension_at > 0) { /* behind a semicolon */
        digits = body->extension_at - 1;
        extra = bytes - body->extension_at;
    }
    if (digits > SIZE_DIGITS)
        return fail(body, 400, "chunk size too large") == 0;
    if (body->bad_extension)
        return fail(body, 400, "malformed chunk") == 0;
    if (!spend_extra(body, extra))
        return false;
    start_part(body,
               body->parser->content_length == 0 ? PART_TRAILERS : PART_DATA);
    return true;
}

/* Each line has one CR and one LF, unless it is folded or ends in LF alone. */
static bool trailers_complete(struct moon_body_in *body)
{
    uint32_t lines = body->trailers + 1;
    if (body->cr_count != lines || body->lf_count != lines)
        return fail(body, 400, "malformed trailer field") == 0;
    return spend_extra(body, body->part_bytes - 2 * (uint64_t)lines);
}

static enum moon_body_result go_on(struct moon_body_in *body)
{
    bool ok = true;
    switch ((enum pause)body->paused_at) {
    case PAUSE_CHUNK_LINE:
        ok = chunk_line_complete(body);
        break;
    case PAUSE_CHUNK_END:
        start_part(body, PART_LINE);
        break;
    case PAUSE_MESSAGE_END:
        if (body->part == PART_DATA || trailers_complete(body))
            return MOON_BODY_DONE;
        ok = false;
        break;
    }
    return ok ? MOON_BODY_MORE : MOON_BODY_FAILED;
}

static enum moon_body_result refused(struct moon_body_in *body,
                                     llhttp_errno_t err)
{
    if (err == HPE_USER)
        return MOON_BODY_FAILED; /* by a callback, which has said why */
    if (body->part == PART_TRAILERS)
        (void)fail(body, 400, "malformed trailer field");
    else if (err == HPE_INVALID_CHUNK_SIZE)
        (void)fail(body, 400, "malformed chunk size");
    else
        (void)fail(body, 400, "malformed chunk");
    return MOON_BODY_FAILED;
}

enum moon_body_result moon_body_in_feed(struct moon_body_in *body,
                                        struct moon_str bytes, size_t *used)
{
    const char *at = bytes.ptr, *end = at + bytes.len;
    enum moon_body_result result = MOON_BODY_MORE;
    while (result == MOON_BODY_MORE && at < end) {
        const char *stop = readable_until(body, at, end);
        if (stop == at) {
            (void)too_large(body);
            return MOON_BODY_FAILED;
        }
        body->feed_at = at;
        body->feed_end = stop;
        llhttp_resume(body->parser);
        llhttp_errno_t err =
            llhttp_execute(body->parser, at, (size_t)(stop - at));
        if (err != HPE_OK && err != HPE_PAUSED)
            return refused(body, err);
        if (err == HPE_PAUSED)
            stop = llhttp_get_error_pos(body->parser);
        count(body, at, stop);
        at = stop;
        if (err == HPE_PAUSED)
            result = go_on(body);
    }
    *used = (size_t)(at - bytes.ptr);
    return result;
}
