/* The framing of a request body: Content-Length or chunked (RFC 9112 section
 * 7.1), decoded as it arrives.
 *
 * Strict where front servers differ, because that is how requests are
 * smuggled: CRLF only, no sign or space round a chunk size, no trailer that
 * could change framing or routing. Trailers are checked, then dropped. Chunk
 * extensions and trailers are bounded, since body limits do not see them. No
 * memory, no I/O; part of http_in. */
#ifndef MOON_HTTP_BODY_IN_H
#define MOON_HTTP_BODY_IN_H

#include "base/errcode.h"
#include "base/str.h"

/* Gets each piece of body as it is decoded; borrowed during the call. What it
 * returns other than MOON_OK ends parsing with MOON_IN_FAILED and status 0
 * (the sink has answered itself). */
typedef enum moon_err moon_body_sink(void *ctx, struct moon_str piece);

struct moon_body_in {
    moon_body_sink *sink; /* NULL: the body is dropped */
    void *sink_ctx;
    uint64_t left;          /* of the body, or of the current chunk */
    uint64_t decoded_bytes; /* handed to the sink so far */
    uint32_t extra_bytes;   /* chunk extensions and trailers so far */
    uint32_t extra_limit;
    uint32_t trailers_left; /* how many more trailer fields may come */
    uint16_t status;        /* when failed; 0: the sink refused */
    const char *why;
    uint8_t state;
    uint8_t digits;   /* of the current chunk size */
    uint8_t name_len; /* of the current trailer name, cut at the buffer */
    char name[18];    /* its start, to know forbidden ones */
};

enum moon_body_result { MOON_BODY_MORE, MOON_BODY_DONE, MOON_BODY_FAILED };

/* Both keep the sink. */
void moon_body_in_start_length(struct moon_body_in *body, uint64_t length);
void moon_body_in_start_chunked(struct moon_body_in *body, uint32_t extra_limit,
                                uint32_t trailers);

/* Feeds `bytes`; *used: how many were consumed. */
enum moon_body_result moon_body_in_feed(struct moon_body_in *body,
                                        struct moon_str bytes, size_t *used);

#endif
