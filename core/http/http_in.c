#include "http/http_in.h"

#include "http/head_check.h"
#include "http/token.h"

enum phase {
    PHASE_HEAD,
    PHASE_UNKNOWN_METHOD, /* llhttp has given up; is it a token at least? */
    PHASE_BODY,
    PHASE_DONE,
    PHASE_FAILED
};

static enum moon_http_in_result fail(struct moon_http_in *in, uint16_t status,
                                     const char *why)
{
    in->status = status;
    in->why = why;
    in->phase = PHASE_FAILED;
    return MOON_IN_FAILED;
}

/* Callbacks of llhttp. One that fails has set status and why. */

static struct moon_http_in *of(llhttp_t *parser)
{
    return MOON_CONTAINER(parser, struct moon_http_in, parser);
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_http_in *in = of(parser);
    struct moon_span *target = &in->req->target;
    if (target->len == 0)
        target->off = (uint32_t)(at - in->feed_base);
    target->len += (uint32_t)len;
    return 0;
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

/* A name may come in pieces; it is whole when the feed goes on behind it. Only
 * then it is counted against the limit, so that a malformed one is found to be
 * that, however the bytes were split. */
static int on_field_name(llhttp_t *parser, const char *at, size_t len)
{
    struct moon_http_in *in = of(parser);
    struct moon_request *req = in->req;
    uint32_t off = (uint32_t)(at - in->feed_base);
    struct moon_field *last = req->fields + req->field_count - 1;
    if (req->field_count > 0 && last->name.off + last->name.len == off) {
        last->name.len += (uint32_t)len;
    } else {
        if (req->field_count == req->field_cap && !grow_fields(in)) {
            (void)fail(in, 503, "out of memory");
            return HPE_USER;
        }
        last = &req->fields[req->field_count++];
        last->name = (struct moon_span){off, (uint32_t)len};
    }
    if (req->field_count > in->limits->header_count &&
        at + len != in->feed_end) {
        (void)fail(in, 431, "too many header fields");
        return HPE_USER;
    }
    return 0;
}

/* Ends llhttp's part: it would take an Upgrade, and a body by rules of its
 * own. */
static int on_head_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field_name,
    .on_headers_complete = on_head_complete,
};

void moon_http_in_start(struct moon_http_in *in, struct moon_request *req,
                        struct moon_arena *arena,
                        const struct moon_http_limits *limits)
{
    llhttp_init(&in->parser, HTTP_REQUEST, &settings);
    in->body.sink = NULL;
    in->req = req;
    in->arena = arena;
    in->limits = limits;
    in->body_bytes = 0;
    in->start = 0;
    in->fields_start = 0;
    in->status = 0;
    in->why = NULL;
    in->phase = PHASE_HEAD;
    in->started = false;
    in->head_done = false;
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

/* Offset of the request line: behind empty lines, which a server should skip
 * (RFC 9112 section 2.2). */
static size_t line_start(const struct moon_http_in *in, const char *base,
                         size_t to)
{
    size_t at = in->start;
    while (at < to && (base[at] == '\r' || base[at] == '\n'))
        at++;
    return at;
}

/* How far llhttp may read before a limit is passed, at most `to`. */
static size_t readable_until(struct moon_http_in *in, const char *base,
                             size_t to)
{
    const struct moon_http_limits *limits = in->limits;
    size_t had = to - in->start;
    if (MOON_LIKELY(had <= limits->request_line_bytes &&
                    had <= limits->header_bytes))
        return to;
    if (in->fields_start == 0) {
        size_t line_max = (size_t)in->start + limits->request_line_bytes + 2;
        size_t until = to < line_max ? to : line_max;
        size_t line = line_start(in, base, until);
        const char *lf = memchr(base + line, '\n', until - line);
        if (lf == NULL)
            return until;
        in->fields_start = (uint32_t)(lf - base) + 1;
    }
    size_t max = (size_t)in->fields_start + limits->header_bytes + 2;
    return to < max ? to : max;
}

static enum moon_http_in_result limit_passed(struct moon_http_in *in)
{
    if (in->fields_start == 0)
        return fail(in, 414, "request line too long");
    return fail(in, 431, "header fields too large");
}

/* llhttp knows a fixed set of methods. Another token is 501 once it is known
 * to be one (RFC 9110 section 9.1). */
static enum moon_http_in_result unknown_method(struct moon_http_in *in,
                                               const char *base, size_t to)
{
    size_t max = (size_t)in->start + in->limits->request_line_bytes + 2;
    size_t until = to < max ? to : max;
    size_t start = line_start(in, base, until);
    size_t at = start;
    in->phase = PHASE_UNKNOWN_METHOD;
    while (at < until && moon_char_is(base[at], MOON_CHAR_TOKEN))
        at++;
    if (at < until)
        return base[at] == ' ' && at > start
                   ? fail(in, 501, "unknown method")
                   : fail(in, 400, "malformed request line");
    return until < to ? limit_passed(in) : MOON_IN_MORE;
}

static const char *why_of(llhttp_errno_t err)
{
    switch (err) {
    case HPE_INVALID_URL:
        return "malformed request target";
    case HPE_INVALID_HEADER_TOKEN:
        return "malformed field line";
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return "malformed Content-Length";
    case HPE_INVALID_TRANSFER_ENCODING:
        return "malformed Transfer-Encoding";
    default:
        return "malformed request";
    }
}

static enum moon_http_in_result refused(struct moon_http_in *in,
                                        llhttp_errno_t err, const char *base,
                                        size_t to)
{
    const struct moon_span *target = &in->req->target;
    size_t target_end = target->off + target->len;
    struct moon_head_fault found;
    switch (err) {
    case HPE_USER:
        return MOON_IN_FAILED; /* by a callback, which has said why */
    case HPE_INVALID_METHOD:
        return unknown_method(in, base, to);
    case HPE_PAUSED_H2_UPGRADE:
        return fail(in, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    case HPE_INVALID_VERSION:
        found = moon_head_version_fault(base + target_end, to - target_end);
        return fail(in, found.status, found.why);
    case HPE_INVALID_CONSTANT:
        /* A method of RTSP, which llhttp knows too. */
        if (in->parser.method >= HTTP_PRI && target->len > 0)
            return fail(in, 501, "unknown method");
        return fail(in, 400, "malformed request line");
    default:
        return fail(in, 400, why_of(err));
    }
}

static enum moon_http_in_result head_complete(struct moon_http_in *in,
                                              uint32_t end)
{
    struct moon_request *req = in->req;
    if (in->parser.method == HTTP_CONNECT)
        return fail(in, 501, "CONNECT is not supported");
    struct moon_head_fault found = moon_head_check(req, in->start, end);
    if (found.status != 0)
        return fail(in, found.status, found.why);
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

static enum moon_http_in_result feed_head(struct moon_http_in *in,
                                          const char *base, size_t from,
                                          size_t to, size_t *used)
{
    if (!in->started) {
        in->started = true;
        in->start = (uint32_t)from;
    }
    *used = to - from;
    in->req->base = base;
    if (in->phase == PHASE_UNKNOWN_METHOD)
        return unknown_method(in, base, to);
    size_t until = readable_until(in, base, to);
    if (until < from)
        until = from;
    in->feed_base = base;
    in->feed_end = base + until;
    llhttp_errno_t err = llhttp_execute(&in->parser, base + from, until - from);
    if (err == HPE_OK)
        return until < to ? limit_passed(in) : MOON_IN_MORE;
    if (err != HPE_PAUSED)
        return refused(in, err, base, to);
    size_t end = (size_t)(llhttp_get_error_pos(&in->parser) - base);
    *used = end - from;
    return head_complete(in, (uint32_t)end);
}

static enum moon_http_in_result feed_body(struct moon_http_in *in,
                                          struct moon_str bytes, size_t *used)
{
    enum moon_body_result result = moon_body_in_feed(&in->body, bytes, used);
    in->body_bytes = in->body.decoded_bytes;
    if (result == MOON_BODY_FAILED)
        return fail(in, in->body.status, in->body.why);
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
    case PHASE_HEAD:
    case PHASE_UNKNOWN_METHOD:
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
