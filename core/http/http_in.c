#include "http/http_in.h"

enum phase {
    PHASE_START, /* nothing has been fed */
    PHASE_LINE,
    PHASE_FIELDS,
    PHASE_BODY,
    PHASE_DONE,
    PHASE_FAILED
};

static enum moon_http_in_result fail(struct moon_http_in *in,
                                     enum moon_head fault)
{
    in->status = moon_head_faults[fault].status;
    in->why = moon_head_faults[fault].why;
    in->phase = PHASE_FAILED;
    return MOON_IN_FAILED;
}

void moon_http_in_start(struct moon_http_in *in, struct moon_request *req,
                        struct moon_arena *arena,
                        const struct moon_http_limits *limits)
{
    in->body.sink = NULL;
    in->req = req;
    in->arena = arena;
    in->limits = limits;
    in->body_bytes = 0;
    in->why = NULL;
    in->status = 0;
    in->phase = PHASE_START;
    in->head_done = false;
    in->notes = (struct moon_head_notes){0};
    req->base = NULL;
    req->method_text = req->target = (struct moon_span){0};
    req->path = req->query = req->host = (struct moon_span){0};
    req->method = MOON_METHOD_OTHER;
    req->minor = 1;
    req->keep_alive = req->expect_continue = false;
    req->chunked = req->upgrade = false;
    req->content_length = -1;
    req->field_count = 0;
    req->field_cap = MOON_FIELDS_INLINE;
    req->fields = req->inline_fields;
}

void moon_http_in_set_sink(struct moon_http_in *in, moon_body_sink *sink,
                           void *ctx)
{
    in->body.sink = sink;
    in->body.sink_ctx = ctx;
}

static bool is_control(char ch)
{
    unsigned char byte = (unsigned char)ch;
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

/* The high bit of each byte that is below 0x20 or 0x7f, no other bit. A byte
 * below 0x80 is one of these if it is below 0x21 once 1 is added, without the
 * high bit; nothing carries from one byte to the next. */
static uint64_t controls_of(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u, low = ones * 0x7f;
    uint64_t next = ((word & low) + ones) & low;
    return ~((next + ones * (0x80 - 0x21)) | word) & ~low;
}

/* Offset of the first control byte other than HTAB in base[at, to), or `to`.
 * Eight bytes at a time: this looks at every byte of every head. */
static size_t find_control(const char *base, size_t from, size_t to)
{
    const char *at = base + from, *end = base + to;
    while (end - at >= (ptrdiff_t)sizeof(uint64_t)) {
        uint64_t found = controls_of(moon_load_le64(at));
        if (found == 0) {
            at += sizeof(uint64_t);
            continue;
        }
        at += (unsigned)MOON_CTZ64(found) / 8;
        if (*at != '\t')
            return (size_t)(at - base);
        at++;
    }
    while (at < end && !is_control(*at))
        at++;
    return (size_t)(at - base);
}

/* Is a line that reaches to `at`, its CRLF not counted, beyond a limit? The
 * empty line at the end never is. */
static bool is_beyond(const struct moon_http_in *in, uint32_t line, size_t at)
{
    return MOON_UNLIKELY(at > in->line_max) &&
           (in->phase == PHASE_LINE || at != line);
}

static void set_line_max(struct moon_http_in *in, uint64_t max)
{
    in->line_max = max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
}

static bool grow_fields(struct moon_http_in *in)
{
    struct moon_request *req = in->req;
    uint32_t cap = req->field_cap * 2;
    struct moon_field *fields =
        moon_arena_alloc(in->arena, cap * sizeof(fields[0]));
    if (fields == NULL)
        return false;
    memcpy(fields, req->fields, req->field_count * sizeof(fields[0]));
    req->fields = fields;
    req->field_cap = cap;
    return true;
}

static enum moon_head add_field(struct moon_http_in *in, uint32_t line,
                                uint32_t end)
{
    struct moon_request *req = in->req;
    if (req->field_count == in->limits->header_count)
        return MOON_HEAD_MANY;
    if (req->field_count == req->field_cap && !grow_fields(in))
        return MOON_HEAD_MEMORY;
    struct moon_field *field = &req->fields[req->field_count++];
    return moon_head_field(req, &in->notes, field, line, end);
}

static enum moon_http_in_result head_complete(struct moon_http_in *in)
{
    struct moon_request *req = in->req;
    enum moon_head found = moon_head_end(req, &in->notes);
    if (found != MOON_HEAD_OK)
        return fail(in, found);
    in->head_done = true;
    in->phase = PHASE_BODY;
    if (req->chunked)
        moon_body_in_start_chunked(&in->body, in->limits->header_bytes,
                                   in->limits->header_count);
    else if (req->content_length > 0)
        moon_body_in_start_length(&in->body, (uint64_t)req->content_length);
    else
        in->phase = PHASE_DONE;
    return MOON_IN_HEAD;
}

/* Empty lines before it are skipped (RFC 9112 section 2.2). */
static enum moon_head take_request_line(struct moon_http_in *in, uint32_t line,
                                        uint32_t end)
{
    if (line == end)
        return MOON_HEAD_OK;
    in->phase = PHASE_FIELDS;
    /* A field line counts with its CRLF. Less than that is room for none. */
    set_line_max(in, in->limits->header_bytes < 2
                         ? 0
                         : (uint64_t)end + in->limits->header_bytes);
    return moon_head_request_line(in->req, line, end);
}

static enum moon_http_in_result feed_head(struct moon_http_in *in,
                                          const char *base, size_t from,
                                          size_t to, size_t *used)
{
    if (in->phase == PHASE_START) {
        in->phase = PHASE_LINE;
        in->line = in->scanned = (uint32_t)from;
        set_line_max(in, (uint64_t)from + in->limits->request_line_bytes);
    }
    in->req->base = base;
    *used = to - from;
    uint32_t line = in->line;
    size_t scanned = in->scanned;
    for (;;) {
        size_t at = find_control(base, scanned, to);
        if (is_beyond(in, line, at))
            return fail(in, in->phase == PHASE_LINE ? MOON_HEAD_LONG_LINE
                                                    : MOON_HEAD_LARGE);
        if (to - at < 2 && (at == to || base[at] == '\r')) {
            in->line = line;
            in->scanned = (uint32_t)at;
            return MOON_IN_MORE;
        }
        if (base[at] != '\r')
            return fail(in, MOON_HEAD_CONTROL);
        if (base[at + 1] != '\n')
            return fail(in, MOON_HEAD_NO_CRLF);
        enum moon_head found;
        if (in->phase == PHASE_LINE) {
            found = take_request_line(in, line, (uint32_t)at);
        } else if (at == line) {
            *used = at + 2 - from;
            return head_complete(in);
        } else {
            found = add_field(in, line, (uint32_t)at);
        }
        if (MOON_UNLIKELY(found != MOON_HEAD_OK))
            return fail(in, found);
        line = (uint32_t)at + 2;
        scanned = line;
    }
}

static enum moon_http_in_result body_failed(struct moon_http_in *in)
{
    in->status = in->body.status;
    in->why = in->body.why;
    in->phase = PHASE_FAILED;
    return MOON_IN_FAILED;
}

static enum moon_http_in_result feed_body(struct moon_http_in *in,
                                          struct moon_str bytes, size_t *used)
{
    enum moon_body_result result = moon_body_in_feed(&in->body, bytes, used);
    in->body_bytes = in->body.decoded_bytes;
    if (result == MOON_BODY_FAILED)
        return body_failed(in);
    if (result == MOON_BODY_MORE)
        return MOON_IN_MORE;
    in->phase = PHASE_DONE;
    return MOON_IN_COMPLETE;
}

enum moon_http_in_result moon_http_in_feed(struct moon_http_in *in,
                                           const char *base, size_t from,
                                           size_t to, size_t *used)
{
    *used = 0;
    switch ((enum phase)in->phase) {
    case PHASE_START:
    case PHASE_LINE:
    case PHASE_FIELDS:
        return from == to ? MOON_IN_MORE : feed_head(in, base, from, to, used);
    case PHASE_BODY:
        return feed_body(in, moon_str(base + from, to - from), used);
    case PHASE_DONE:
        return MOON_IN_COMPLETE;
    case PHASE_FAILED:
        break;
    }
    return MOON_IN_FAILED;
}
