/* Requests of a connection, one behind the other, through http_in as the server
 * feeds it: whole, byte by byte and cut at random, which must make no
 * difference; and what comes out compared with the oracle's reading. */
#include "fuzz.h"
#include "http_oracle.h"

#include "http/http_in.h"
#include "http/token.h"

static const struct moon_http_limits wide = {8192, 32768, 100};
static const struct moon_http_limits narrow = {24, 80, 3};

struct connection {
    const struct moon_http_limits *limits;
    struct moon_str bytes; /* all that will ever come */
    size_t start, fed;     /* of the message under way */
    bool open;             /* one is under way */
    bool over;
    struct moon_http_in in;
    struct moon_request req;
    struct moon_arena arena;
    struct moon_buf body;
    struct moon_buf told; /* what came out, to be compared */
};

static enum moon_err take(void *ctx, struct moon_str piece)
{
    moon_buf_add_str(ctx, piece);
    return MOON_OK;
}

static struct moon_str text(const struct connection *c, struct moon_span span)
{
    return moon_request_str(&c->req, span);
}

/* What holds of every head that is accepted, oracle or not. */
static void check_spans(struct connection *c, struct moon_str head)
{
    const struct moon_request *req = &c->req;
    FUZZ_CHECK(fuzz_within(text(c, req->method_text), head));
    FUZZ_CHECK(moon_str_is_token(text(c, req->method_text)));
    FUZZ_CHECK(fuzz_within(text(c, req->target), head));
    FUZZ_CHECK(fuzz_within(text(c, req->path), text(c, req->target)));
    FUZZ_CHECK(fuzz_within(text(c, req->query), text(c, req->target)));
    FUZZ_CHECK(req->path.len > 0);
    FUZZ_CHECK(fuzz_within(text(c, req->host), head));
    FUZZ_CHECK(moon_str_is(text(c, req->host), MOON_CHAR_VALUE));
    FUZZ_CHECK(req->field_count <= c->limits->header_count);
    FUZZ_CHECK(req->target.len < c->limits->request_line_bytes);
    FUZZ_CHECK(!(req->chunked && req->content_length >= 0));
    FUZZ_CHECK(!(req->chunked && req->minor == 0));
}

static void check_oracle(struct connection *c, const struct oracle_head *head)
{
    const struct moon_request *req = &c->req;
    FUZZ_CHECK(moon_str_eq(text(c, req->method_text), head->method));
    FUZZ_CHECK(moon_str_eq(text(c, req->target), head->target));
    FUZZ_CHECK(req->minor == head->minor);
    FUZZ_CHECK(req->field_count == head->count);
    for (size_t i = 0; i < head->count; i++) {
        FUZZ_CHECK(moon_str_eq(text(c, req->fields[i].name), head->names[i]));
        FUZZ_CHECK(moon_str_eq(text(c, req->fields[i].value), head->values[i]));
    }
    FUZZ_CHECK(req->chunked == head->chunked);
    FUZZ_CHECK((req->content_length >= 0) == head->has_length);
    FUZZ_CHECK(!head->has_length || head->length == ORACLE_FAR ||
               (uint64_t)req->content_length == head->length);
    FUZZ_CHECK(!head->close || !req->keep_alive);
}

static void tell_head(struct connection *c)
{
    const struct moon_request *req = &c->req;
    moon_buf_printf(
        &c->told, "%u %.*s /%.*s/%.*s/ 1.%d host=%.*s %d%d%d%d %lld",
        (unsigned)req->method, MOON_STR_ARG(text(c, req->method_text)),
        MOON_STR_ARG(text(c, req->path)), MOON_STR_ARG(text(c, req->query)),
        req->minor, MOON_STR_ARG(text(c, req->host)), req->keep_alive,
        req->chunked, req->upgrade, req->expect_continue,
        (long long)req->content_length);
    for (uint32_t i = 0; i < req->field_count; i++)
        moon_buf_printf(&c->told, " %.*s=[%.*s]",
                        MOON_STR_ARG(text(c, req->fields[i].name)),
                        MOON_STR_ARG(text(c, req->fields[i].value)));
}

static void check_failed(const struct connection *c)
{
    static const int known[] = {400, 414, 431, 501, 505};
    bool found = false;
    for (size_t i = 0; i < MOON_COUNT(known); i++)
        found |= c->in.status == known[i];
    FUZZ_CHECK(found);
    FUZZ_CHECK(c->in.why != NULL);
}

static bool limits_are_wide(const struct connection *c,
                            const struct oracle_head *head)
{
    return c->limits == &wide && head->count <= wide.header_count &&
           head->len < wide.request_line_bytes;
}

/* The message that ended is compared with what the oracle says of it. */
static void judge(struct connection *c, enum moon_http_in_result result)
{
    struct moon_str left =
        moon_str(c->bytes.ptr + c->start, c->bytes.len - c->start);
    struct oracle_head head;
    struct moon_buf body = {0};
    size_t used = 0;
    enum oracle_verdict verdict = oracle_read_head(left, &head);
    if (c->in.head_done) {
        FUZZ_CHECK(verdict >= ORACLE_LAX);
        left.ptr += head.len;
        left.len -= head.len;
        enum oracle_verdict found = oracle_read_body(&head, left, &body, &used);
        verdict = found < verdict ? found : verdict;
    }
    if (result == MOON_IN_COMPLETE) {
        FUZZ_CHECK(verdict >= ORACLE_LAX);
        FUZZ_CHECK(moon_str_eq(moon_buf_str(&body), moon_buf_str(&c->body)));
        FUZZ_CHECK(c->fed == c->start + head.len + used);
    } else if (verdict == ORACLE_CLEAN) {
        FUZZ_CHECK(!limits_are_wide(c, &head));
    }
    moon_buf_deinit(&body);
}

static void message_over(struct connection *c, enum moon_http_in_result result)
{
    if (result == MOON_IN_FAILED) {
        check_failed(c);
        moon_buf_printf(&c->told, "%d %s", c->in.status, c->in.why);
    } else {
        moon_buf_printf(&c->told, " [%.*s]\n",
                        MOON_STR_ARG(moon_buf_str(&c->body)));
    }
    judge(c, result);
    c->over = result == MOON_IN_FAILED || !c->req.keep_alive;
    c->start = c->fed;
    c->open = false;
    moon_arena_reset(&c->arena);
    moon_buf_deinit(&c->body);
}

/* One feed of what is there, from a copy that ends where the bytes do. The
 * head begins at the message; what follows may be anywhere. */
static enum moon_http_in_result feed(struct connection *c, size_t to)
{
    size_t from = c->in.head_done ? c->fed : c->start, used = 0;
    struct moon_str copy = fuzz_copy(moon_str(c->bytes.ptr + from, to - from));
    enum moon_http_in_result result =
        moon_http_in_feed(&c->in, copy.ptr, c->fed - from, to - from, &used);
    FUZZ_CHECK(used <= to - c->fed);
    c->fed += used;
    if (result == MOON_IN_HEAD) {
        struct oracle_head head;
        FUZZ_CHECK(oracle_read_head(copy, &head) >= ORACLE_LAX);
        FUZZ_CHECK(head.len == c->fed - c->start);
        check_spans(c, moon_str(copy.ptr, head.len));
        check_oracle(c, &head);
        tell_head(c);
        moon_http_in_set_sink(&c->in, take, &c->body);
    }
    fuzz_free(copy);
    return result;
}

static void arrive(struct connection *c, size_t to)
{
    while (!c->over && (c->fed < to || (c->open && c->in.head_done))) {
        if (!c->open)
            moon_http_in_start(&c->in, &c->req, &c->arena, c->limits);
        c->open = true;
        enum moon_http_in_result result = feed(c, to);
        if (result == MOON_IN_MORE) {
            FUZZ_CHECK(c->fed == to);
            return;
        }
        if (result == MOON_IN_HEAD && moon_http_in_expects_body(&c->in))
            continue;
        if (result == MOON_IN_HEAD)
            result = MOON_IN_COMPLETE;
        message_over(c, result);
    }
}

/* `step`: how many bytes come at once; 0: at random. */
static struct moon_buf run(struct moon_str bytes,
                           const struct moon_http_limits *limits, size_t step,
                           uint64_t seed)
{
    struct connection c = {.limits = limits, .bytes = bytes};
    moon_arena_init(&c.arena, NULL, 0);
    for (size_t to = 0; to < bytes.len && !c.over;) {
        size_t more = step;
        if (step == 0)
            more = 1 + fuzz_random(&seed) % (fuzz_random(&seed) % 2 ? 4 : 60);
        to = more < bytes.len - to ? to + more : bytes.len;
        arrive(&c, to);
    }
    if (!c.over)
        moon_buf_printf(&c.told, "cut %d", c.open && c.in.head_done);
    moon_arena_reset(&c.arena);
    moon_buf_deinit(&c.body);
    FUZZ_CHECK(!c.told.failed);
    return c.told;
}

static void compare(struct moon_str bytes,
                    const struct moon_http_limits *limits)
{
    struct moon_buf whole = run(bytes, limits, bytes.len, 0);
    for (int i = 0; i < 3; i++) {
        struct moon_buf cut =
            run(bytes, limits, i == 0 ? 1 : 0, fuzz_seed(bytes) + (uint64_t)i);
        if (!moon_str_eq(moon_buf_str(&whole), moon_buf_str(&cut)))
            (void)fprintf(stderr, "whole: %.*s\ncut: %.*s\n",
                          MOON_STR_ARG(moon_buf_str(&whole)),
                          MOON_STR_ARG(moon_buf_str(&cut)));
        FUZZ_CHECK(moon_str_eq(moon_buf_str(&whole), moon_buf_str(&cut)));
        moon_buf_deinit(&cut);
    }
    moon_buf_deinit(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 20000)
        return 0;
    compare(fuzz_str(data, size), &wide);
    compare(fuzz_str(data, size), &narrow);
    return 0;
}
