/* The body of a request, as llhttp decodes it: Content-Length or chunked (RFC
 * 9112 section 7.1). Goes on with the parser that has read the head.
 *
 * Adds what llhttp 8 leaves open, because requests are smuggled where servers
 * differ: no folded trailer and no line end without CR, no trailer that could
 * change framing or routing, no chunk extension without a name, no endless
 * zeros before a chunk size. Chunk extensions and trailers are bounded, since
 * body limits do not see them; then they are dropped. No memory, no I/O; part
 * of http_in. */
#ifndef MOON_HTTP_BODY_IN_H
#define MOON_HTTP_BODY_IN_H

#include "base/errcode.h"
#include "base/str.h"

#include <llhttp.h>

/* Gets each piece of body as it is decoded; borrowed during the call. What it
 * returns other than MOON_OK ends parsing with MOON_IN_FAILED and status 0
 * (the sink has answered itself). */
typedef enum moon_err moon_body_sink(void *ctx, struct moon_str piece);

struct moon_body_in {
    llhttp_t *parser;     /* borrowed; paused behind the head */
    moon_body_sink *sink; /* NULL: the body is dropped */
    void *sink_ctx;
    uint64_t decoded_bytes; /* handed to the sink so far */
    uint64_t part_bytes;    /* of this chunk line or of the trailers so far */
    const char *feed_at;    /* the bytes that llhttp has now */
    const char *feed_end;
    const char *why;
    uint32_t extension_at; /* of this chunk line; 0: none so far */
    uint32_t extra_left;   /* bytes of chunk extensions and trailers */
    uint32_t trailers;
    uint32_t trailer_limit;
    uint32_t cr_count, lf_count; /* in the trailers */
    uint16_t status;             /* when failed; 0: the sink refused */
    uint8_t part;
    uint8_t paused_at;
    bool open; /* a name has come in part */
    bool bad_extension;
    uint8_t name_len; /* of the current name, cut at the buffer */
    char name[18];    /* its start, to know forbidden trailers */
};

enum moon_body_result { MOON_BODY_MORE, MOON_BODY_DONE, MOON_BODY_FAILED };

/* Keeps the sink. At most `extra_limit` bytes of chunk extensions and trailers
 * and `trailer_limit` trailers may come. */
void moon_body_in_start(struct moon_body_in *body, llhttp_t *parser,
                        uint32_t extra_limit, uint32_t trailer_limit);

/* Feeds `bytes`; *used: how many were consumed. Not after DONE or FAILED. */
enum moon_body_result moon_body_in_feed(struct moon_body_in *body,
                                        struct moon_str bytes, size_t *used);

#endif
