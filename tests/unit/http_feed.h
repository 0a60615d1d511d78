/* For tests of http_in: feeds a message in pieces and sums up what came out as
 * one line of text, so that two ways of feeding can be compared.
 *
 * Every feed gets a fresh copy of the bytes so far, exactly as long as they
 * are: a pointer kept too long or a read behind the end shows under ASan. */
#ifndef MOON_TESTS_HTTP_FEED_H
#define MOON_TESTS_HTTP_FEED_H

#include "http/http_in.h"

#include "base/buf.h"

enum { FEED_TEXT = 40000 };

static MOON_UNUSED const struct moon_http_limits feed_limits = {8192, 32768,
                                                                100};

struct feed {
    struct moon_http_limits limits;
    struct moon_http_in in;
    struct moon_request req;
    struct moon_arena arena;
    struct moon_buf body;
    enum moon_http_in_result result;
    size_t used;  /* of all bytes */
    char *buffer; /* of the head, while the request points into it */
    size_t head_end;
    char text[FEED_TEXT]; /* last: not cleared each time */
};

static enum moon_err feed_sink(void *ctx, struct moon_str piece)
{
    moon_buf_add_str(ctx, piece);
    return MOON_OK;
}

static void feed_init(struct feed *feed, const struct moon_http_limits *limits)
{
    memset(feed, 0, sizeof(*feed) - FEED_TEXT);
    feed->limits = *limits;
    moon_arena_init(&feed->arena, NULL, 0);
    moon_http_in_start(&feed->in, &feed->req, &feed->arena, &feed->limits);
    feed->result = MOON_IN_MORE;
}

static void feed_deinit(struct feed *feed)
{
    moon_arena_reset(&feed->arena);
    moon_buf_deinit(&feed->body);
    free(feed->buffer);
}

static struct moon_str feed_str(const struct feed *feed, struct moon_span span)
{
    return moon_request_str(&feed->req, span);
}

/* Keeps a copy of the head alive, since the buffer of a feed goes. */
static void feed_keep_head(struct feed *feed, struct moon_str bytes)
{
    feed->buffer = malloc(feed->head_end);
    assert_non_null(feed->buffer);
    memcpy(feed->buffer, bytes.ptr, feed->head_end);
    feed->req.base = feed->buffer;
}

/* Makes bytes[from, to) arrive. */
static void feed_more(struct feed *feed, struct moon_str bytes, size_t to)
{
    size_t used;
    while (feed->result == MOON_IN_MORE || feed->result == MOON_IN_HEAD) {
        size_t base = feed->in.head_done ? feed->used : 0;
        char *copy = malloc(to - base + 1);
        assert_non_null(copy);
        /* The copy ends where the bytes do; the byte before it is spare. */
        memcpy(copy + 1, bytes.ptr + base, to - base);
        feed->result = moon_http_in_feed(&feed->in, copy + 1, feed->used - base,
                                         to - base, &used);
        feed->used += used;
        assert_true(feed->used <= to);
        if (feed->result == MOON_IN_HEAD) {
            feed->head_end = feed->used;
            feed_keep_head(feed, bytes);
            moon_http_in_set_sink(&feed->in, feed_sink, &feed->body);
        }
        free(copy);
        if (feed->result == MOON_IN_MORE) {
            assert_int_equal(feed->used, to);
            break;
        }
    }
}

static void feed_sum_up(struct feed *feed)
{
    struct moon_buf out = {0};
    const struct moon_request *req = &feed->req;
    if (feed->result == MOON_IN_FAILED) {
        moon_buf_printf(&out, "%d %s", feed->in.status, feed->in.why);
    } else if (!feed->in.head_done) {
        moon_buf_addz(&out, "more");
    } else {
        moon_buf_printf(
            &out, "%s %.*s /%.*s/%.*s/ 1.%d host=%.*s%s%s%s%s cl=%lld",
            feed->result == MOON_IN_COMPLETE ? "done" : "head",
            MOON_STR_ARG(feed_str(feed, req->method_text)),
            MOON_STR_ARG(feed_str(feed, req->path)),
            MOON_STR_ARG(feed_str(feed, req->query)), req->minor,
            MOON_STR_ARG(feed_str(feed, req->host)),
            req->keep_alive ? " keep" : "", req->chunked ? " chunked" : "",
            req->upgrade ? " upgrade" : "",
            req->expect_continue ? " expect" : "",
            (long long)req->content_length);
        for (uint32_t i = 0; i < req->field_count; i++)
            moon_buf_printf(&out, " %.*s=[%.*s]",
                            MOON_STR_ARG(feed_str(feed, req->fields[i].name)),
                            MOON_STR_ARG(feed_str(feed, req->fields[i].value)));
        moon_buf_printf(&out, " body=[%.*s] used=%zu",
                        MOON_STR_ARG(moon_buf_str(&feed->body)), feed->used);
    }
    assert_false(out.failed);
    size_t len = out.len < FEED_TEXT - 1 ? out.len : FEED_TEXT - 1;
    memcpy(feed->text, out.ptr, len);
    feed->text[len] = '\0';
    moon_buf_deinit(&out);
}

/* Whole, cut once at `cut`, or (cut 0) byte by byte. */
static MOON_UNUSED void feed_all(struct feed *feed, struct moon_str bytes,
                                 size_t cut)
{
    if (cut == 0) {
        for (size_t to = 1; to <= bytes.len; to++)
            feed_more(feed, bytes, to);
    } else {
        if (cut < bytes.len)
            feed_more(feed, bytes, cut);
        feed_more(feed, bytes, bytes.len);
    }
    feed_sum_up(feed);
}

/* Feeds in every way there is, which must make no difference; returns what
 * came out in *text. */
static MOON_UNUSED void feed_every_way(struct moon_str bytes,
                                       const struct moon_http_limits *limits,
                                       char text[FEED_TEXT])
{
    struct feed *feed = malloc(sizeof(*feed));
    assert_non_null(feed);
    feed_init(feed, limits);
    feed_all(feed, bytes, bytes.len);
    strcpy(text, feed->text);
    feed_deinit(feed);
    size_t step = bytes.len > 2000 ? bytes.len / 500 : 1;
    for (size_t cut = 0; cut < bytes.len; cut += step) {
        feed_init(feed, limits);
        feed_all(feed, bytes, cut);
        if (strcmp(feed->text, text) != 0)
            print_message("cut at %zu: %.*s\n", cut, MOON_STR_ARG(bytes));
        assert_string_equal(feed->text, text);
        feed_deinit(feed);
    }
    free(feed);
}

#endif
