#include "http/http_in.h"

#include "http/head_plain.h"
#include "http/token.h"

enum phase {
    PHASE_START,  /* nothing has been fed */
    PHASE_METHOD, /* of a method that llhttp does not know */
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_DONE,
    PHASE_FAILED
};

enum { NO_COLON = UINT32_MAX };

static enum moon_http_in_result fail(struct moon_http_in *in,
                                     enum moon_head fault)
{
    in->status = moon_head_faults[fault].status;
    in->why = moon_head_faults[fault].why;
    in->phase = PHASE_FAILED;
    return MOON_IN_FAILED;
}

/* Callbacks of llhttp. One that fails has set status and why.
 *
 * llhttp 8 in strict mode accepts folded lines and an empty line without CR,
 * and more in the request line (head_parse.h). All of that shows in where the
 * parts are: a line must begin right behind the CRLF of the one before it, and
 * a value right behind its colon and white space. */

static struct moon_http_in *of(llhttp_t *parser)
{
    return MOON_CONTAINER(parser, struct moon_http_in, parser);
}

static int refuse(struct moon_http_in *in, enum moon_head fault)
{
    (void)fail(in, fault);
    return HPE_USER;
}

/* A span comes in pieces when the feed ends inside it. Is it complete, all of
 * it in in->span? */
static bool gather_piece(struct moon_http_in *in, const char *at, size_t len)
{
    if (in->open)
        in->span.len += (uint32_t)len;
    else
        in->span =
            (struct moon_span){(uint32_t)(at - in->req->base), (uint32_t)len};
    in->open = at + len == in->feed_end;
    return !in->open;
}

/* Is the span complete, in *span? Then the byte behind it is there too. Until
 * then nothing is decided, so that what is found does not depend on the
 * splits. */
static inline bool gather(struct moon_http_in *in, const char *at, size_t len,
                          struct moon_span *span)
{
    if (MOON_LIKELY(!in->open && at + len != in->feed_end)) {
        *span =
            (struct moon_span){(uint32_t)(at - in->req->base), (uint32_t)len};
        return true;
    }
    if (!gather_piece(in, at, len))
        return false;
    *span = in->span;
    return true;
}

static int on_target(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_http_in *in = of(parser);
    (void)gather(in, at, len, &in->req->target);
    return 0;
}

static enum moon_method method_of(const struct moon_http_in *in)
{
    if (in->respelled)
        return MOON_METHOD_OTHER;
    switch (in->parser.method) {
    case HTTP_GET:
        return MOON_METHOD_GET;
    case HTTP_HEAD:
        return MOON_METHOD_HEAD;
    case HTTP_POST:
        return MOON_METHOD_POST;
    case HTTP_PUT:
        return MOON_METHOD_PUT;
    case HTTP_PATCH:
        return MOON_METHOD_PATCH;
    case HTTP_DELETE:
        return MOON_METHOD_DELETE;
    case HTTP_OPTIONS:
        return MOON_METHOD_OPTIONS;
    default:
        return MOON_METHOD_OTHER;
    }
}

static enum moon_head check_request_line(struct moon_http_in *in, uint32_t next)
{
    in->req->method = method_of(in);
    if (MOON_UNLIKELY(in->parser.method == HTTP_CONNECT))
        return MOON_HEAD_CONNECT;
    return moon_head_request_line(in->req, in->start, next);
}

/* The next line begins at `next`: does it, after the last one? */
static inline enum moon_head check_line(struct moon_http_in *in, uint32_t next)
{
    if (in->req->field_count == 0)
        return check_request_line(in, next);
    return next == in->next_line && in->req->base[next - 1] == '\n'
               ? MOON_HEAD_OK
               : MOON_HEAD_BAD_FIELD;
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

static int on_name(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_http_in *in = of(parser);
    struct moon_request *req = in->req;
    struct moon_span span;
    if (!gather(in, at, len, &span))
        return 0;
    enum moon_head found = check_line(in, span.off);
    if (MOON_UNLIKELY(found != MOON_HEAD_OK))
        return refuse(in, found);
    if (MOON_UNLIKELY(at[len] != ':' || span.len == 0))
        return refuse(in, MOON_HEAD_BAD_FIELD);
    if (MOON_UNLIKELY(req->field_count == in->limits->header_count))
        return refuse(in, MOON_HEAD_MANY);
    if (MOON_UNLIKELY(req->field_count == req->field_cap) && !grow_fields(in))
        return refuse(in, MOON_HEAD_MEMORY);
    req->fields[req->field_count].name = span;
    in->colon = span.off + span.len;
    return 0;
}

static bool is_space(char ch)
{
    return ch == ' ' || ch == '\t';
}

/* For a value that does not begin two bytes behind its colon, or is empty and
 * so is reported at the line after it: where does it begin? 0 if there is more
 * than white space between them. More of a value after its end is a folded
 * line. */
static uint32_t value_start(const struct moon_http_in *in,
                            struct moon_span span)
{
    const char *base = in->req->base;
    if (in->colon == NO_COLON)
        return 0;
    uint32_t end = span.off;
    if (span.len == 0) {
        end -= 2;
        if (base[end] != '\r' || base[end + 1] != '\n')
            return 0;
    }
    for (uint32_t at = in->colon + 1; at < end; at++) {
        if (!is_space(base[at]))
            return 0;
    }
    return end;
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_http_in *in = of(parser);
    struct moon_request *req = in->req;
    struct moon_span span;
    if (!gather(in, at, len, &span))
        return 0;
    /* One byte between them can only be white space. */
    if (MOON_UNLIKELY(span.off != in->colon + 2 || span.len == 0)) {
        span.off = value_start(in, span);
        if (span.off == 0)
            return refuse(in, MOON_HEAD_BAD_FIELD);
    }
    const char *value = req->base + span.off;
    /* After anything but CR llhttp says what is wrong. Whatever it says, no
     * line begins at 0. */
    in->next_line = value[span.len] == '\r' ? span.off + span.len + 2 : 0;
    in->colon = NO_COLON;
    while (span.len > 0 && is_space(value[span.len - 1]))
        span.len--;
    struct moon_field *field = &req->fields[req->field_count++];
    field->value = span;
    if (!moon_head_may_know(moon_request_str(req, field->name)))
        return 0;
    enum moon_head found = moon_head_field(req, &in->notes, field);
    if (MOON_UNLIKELY(found != MOON_HEAD_OK))
        return refuse(in, found);
    return 0;
}

/* Ends the head; body_in.c goes on. */
static int on_head_end(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head_end,
};

void moon_http_in_start(struct moon_http_in *in, struct moon_request *req,
                        struct moon_arena *arena,
                        const struct moon_http_limits *limits)
{
    in->body.sink = NULL;
    in->req = req;
    in->arena = arena;
    in->limits = limits;
    in->colon = NO_COLON;
    in->body_bytes = 0;
    in->why = NULL;
    in->status = 0;
    in->phase = PHASE_START;
    in->head_done = in->open = in->respelled = false;
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

/* Offset of the request line: behind what llhttp skips. */
static size_t line_start(const struct moon_http_in *in, const char *base,
                         size_t to)
{
    size_t at = in->start;
    while (at < to && (base[at] == '\r' || base[at] == '\n'))
        at++;
    return at;
}

/* How far llhttp may read before a limit is passed, at most `to`. In *line:
 * is that the one of the request line? The limits do not count the CRLF of the
 * request line nor the empty line at the end. */
static size_t limited_until(const struct moon_http_in *in, const char *base,
                            size_t to, bool *line)
{
    const struct moon_http_limits *limits = in->limits;
    size_t max = (size_t)in->start + limits->request_line_bytes + 2;
    size_t until = to < max ? to : max;
    size_t from = line_start(in, base, until);
    const char *lf = memchr(base + from, '\n', until - from);
    *line = lf == NULL;
    if (*line)
        return until;
    max = (size_t)(lf + 1 - base) + limits->header_bytes + 2;
    return to < max ? to : max;
}

static inline size_t readable_until(const struct moon_http_in *in,
                                    const char *base, size_t to, bool *line)
{
    size_t had = to - in->start;
    *line = false;
    if (MOON_LIKELY(had <= in->limits->request_line_bytes &&
                    had <= in->limits->header_bytes))
        return to;
    return limited_until(in, base, to, line);
}

static enum moon_http_in_result limit_passed(struct moon_http_in *in, bool line)
{
    return fail(in, line ? MOON_HEAD_LONG_LINE : MOON_HEAD_LARGE);
}

static enum moon_http_in_result head_complete(struct moon_http_in *in,
                                              uint32_t end)
{
    struct moon_request *req = in->req;
    const llhttp_t *parser = &in->parser;
    enum moon_head found = check_line(in, end - 2);
    if (found == MOON_HEAD_OK && req->base[end - 2] != '\r')
        found = MOON_HEAD_BAD_FIELD;
    if (MOON_UNLIKELY(parser->flags & F_CONTENT_LENGTH)) {
        if (parser->content_length > INT64_MAX)
            return fail(in, MOON_HEAD_BAD_LENGTH);
        req->content_length = (int64_t)parser->content_length;
    }
    if (found == MOON_HEAD_OK)
        found = moon_head_end(req, &in->notes);
    if (MOON_UNLIKELY(found != MOON_HEAD_OK))
        return fail(in, found);
    in->head_done = true;
    in->phase = PHASE_DONE;
    if (moon_http_in_expects_body(in)) {
        in->phase = PHASE_BODY;
        moon_body_in_start(&in->body, &in->parser, in->limits->header_bytes,
                           in->limits->header_count);
    }
    return MOON_IN_HEAD;
}

static enum moon_head fault_of(const struct moon_http_in *in,
                               llhttp_errno_t err)
{
    const struct moon_span *target = &in->req->target;
    const char *target_end = in->req->base + target->off + target->len;
    switch (err) {
    case HPE_INVALID_URL:
        return MOON_HEAD_BAD_TARGET;
    case HPE_INVALID_VERSION:
        /* Up to the byte that llhttp did not like. */
        return moon_head_version_fault(
            target_end,
            (size_t)(llhttp_get_error_pos(&in->parser) + 1 - target_end));
    case HPE_INVALID_HEADER_TOKEN:
    case HPE_UNEXPECTED_SPACE:
    case HPE_LF_EXPECTED:
        return MOON_HEAD_BAD_FIELD;
    case HPE_INVALID_CONTENT_LENGTH:
        return MOON_HEAD_BAD_LENGTH;
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return MOON_HEAD_FRAMING;
    case HPE_INVALID_TRANSFER_ENCODING:
        return MOON_HEAD_BAD_CODING;
    default:
        return MOON_HEAD_BAD_LINE;
    }
}

static enum moon_http_in_result execute(struct moon_http_in *in,
                                        const char *base, size_t from,
                                        size_t to, size_t *used);

/* llhttp knows a fixed set of methods, and some of them only in other
 * protocols, but a method may be any token (RFC 9110 section 9.1). So llhttp
 * starts again with one that it knows in place of this. */
static enum moon_http_in_result respell(struct moon_http_in *in,
                                        const char *base, size_t to,
                                        size_t *used)
{
    bool line;
    size_t until = readable_until(in, base, to, &line);
    size_t start = line_start(in, base, until), at = start;
    while (at < until && moon_char_is(base[at], MOON_CHAR_TOKEN))
        at++;
    in->phase = PHASE_METHOD;
    if (at == until)
        return until < to ? limit_passed(in, line) : MOON_IN_MORE;
    if (at == start || base[at] != ' ')
        return fail(in, MOON_HEAD_BAD_LINE);
    static const char known[] = "POST";
    in->phase = PHASE_HEAD;
    in->respelled = true;
    in->open = false;
    llhttp_init(&in->parser, HTTP_REQUEST, &settings);
    (void)llhttp_execute(&in->parser, known, sizeof(known) - 1);
    return execute(in, base, at, to, used);
}

static bool is_other_method(const struct moon_http_in *in, llhttp_errno_t err)
{
    return !in->respelled &&
           (err == HPE_INVALID_METHOD || in->parser.method >= HTTP_SOURCE);
}

/* Gives llhttp base[from, to), as far as the limits allow. All of that is used
 * unless the head ends before. */
static enum moon_http_in_result execute(struct moon_http_in *in,
                                        const char *base, size_t from,
                                        size_t to, size_t *used)
{
    bool line;
    size_t until = readable_until(in, base, to, &line);
    if (MOON_UNLIKELY(until <= from))
        return limit_passed(in, line);
    in->feed_end = base + until;
    llhttp_errno_t err = llhttp_execute(&in->parser, base + from, until - from);
    if (MOON_LIKELY(err == HPE_PAUSED)) {
        size_t end = (size_t)(in->parser.error_pos - base);
        *used -= to - end;
        return head_complete(in, (uint32_t)end);
    }
    if (err == HPE_OK)
        return until < to ? limit_passed(in, line) : MOON_IN_MORE;
    if (err == HPE_USER)
        return MOON_IN_FAILED; /* by a callback, which has said why */
    if (is_other_method(in, err))
        return respell(in, base, to, used);
    return fail(in, fault_of(in, err));
}

static enum moon_http_in_result feed_head(struct moon_http_in *in,
                                          const char *base, size_t from,
                                          size_t to, size_t *used)
{
    if (in->phase == PHASE_START) {
        in->phase = PHASE_HEAD;
        in->start = (uint32_t)from;
        llhttp_init(&in->parser, HTTP_REQUEST, &settings);
    }
    in->req->base = base;
    *used = to - from;
    if (MOON_UNLIKELY(in->phase == PHASE_METHOD))
        return respell(in, base, to, used);
    return execute(in, base, from, to, used);
}

/* The usual head, without llhttp, if it is all there. */
static bool read_plain(struct moon_http_in *in, const char *base, size_t from,
                       size_t to, size_t *used)
{
    const struct moon_http_limits *limits = in->limits;
    struct moon_request *req = in->req;
    size_t most = limits->request_line_bytes < limits->header_bytes
                      ? limits->request_line_bytes
                      : limits->header_bytes;
    uint32_t most_fields = limits->header_count < req->field_cap
                               ? limits->header_count
                               : req->field_cap;
    uint32_t behind = moon_head_plain(req, most_fields, base, from,
                                      to - from > most ? from + most : to);
    if (behind == 0)
        return false;
    in->phase = PHASE_DONE;
    in->head_done = true;
    *used = behind - from;
    return true;
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
    if (MOON_LIKELY(in->phase == PHASE_START && from < to))
        return MOON_LIKELY(read_plain(in, base, from, to, used))
                   ? MOON_IN_HEAD
                   : feed_head(in, base, from, to, used);
    *used = 0;
    switch ((enum phase)in->phase) {
    case PHASE_START:
    case PHASE_METHOD:
    case PHASE_HEAD:
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
