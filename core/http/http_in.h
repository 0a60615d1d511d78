/* Bytes to a request: llhttp finds the parts of a message, head and body; what
 * it leaves open is closed here, in head_parse.h and in body_in.h.
 *
 * No I/O and no memory of its own: fields beyond the inline ones come from the
 * arena given at start. One instance serves one message; it is part of the
 * exchange. All limits are enforced here, so a caller never sees a head larger
 * than allowed; what is found does not depend on how the bytes were split.
 * Refuses what RFC 9112 says a server must or may refuse: obs-fold, bare CR or
 * LF, a missing or foreign version, Content-Length with Transfer-Encoding, a
 * transfer coding other than chunked, white space before the colon, no or
 * several Host in HTTP/1.1, control bytes. */
#ifndef MOON_HTTP_HTTP_IN_H
#define MOON_HTTP_HTTP_IN_H

#include "base/errcode.h"
#include "http/body_in.h"
#include "http/head_parse.h"
#include "http/request.h"

#include <llhttp.h>

struct moon_http_limits {
    uint32_t request_line_bytes; /* without its CRLF; 414 beyond */
    uint32_t header_bytes;       /* all field lines with their CRLFs, without
                                    the empty line; 431 beyond. Also bounds
                                    trailers and chunk extensions */
    uint32_t header_count;       /* 431 beyond */
};

enum moon_http_in_result {
    MOON_IN_MORE,     /* all given bytes used, the message goes on */
    MOON_IN_HEAD,     /* the head is complete; feed again for the body */
    MOON_IN_COMPLETE, /* the message is complete; later bytes are unused */
    MOON_IN_FAILED,   /* see status and why; answer and close */
};

struct moon_http_in {
    llhttp_t parser;
    struct moon_request *req;
    struct moon_arena *arena;
    const struct moon_http_limits *limits;
    const char *feed_end;  /* of the bytes that llhttp has now */
    struct moon_span span; /* the one that llhttp reports: a part so far */
    uint32_t start;        /* offset of the first byte fed */
    uint32_t next_line;    /* where the line after the last one must begin */
    uint32_t colon;        /* offset of the one that waits for its value */
    uint64_t body_bytes;   /* decoded so far */
    const char *why;       /* static text for the log and the answer */
    uint16_t status;       /* 400, 414, 431, 501, 505 when FAILED; 503: no
                              memory; 0: the sink refused */
    uint8_t phase;
    bool head_done;
    bool open;      /* the span is not complete */
    bool respelled; /* llhttp was told another method */
    struct moon_head_notes notes;
    struct moon_body_in body; /* started when the head is complete */
};

/* Borrows all four until the message is complete. Resets `req`. */
void moon_http_in_start(struct moon_http_in *in, struct moon_request *req,
                        struct moon_arena *arena,
                        const struct moon_http_limits *limits);

/* Must be set before the feed that follows MOON_IN_HEAD; without one the body
 * is dropped. */
void moon_http_in_set_sink(struct moon_http_in *in, moon_body_sink *sink,
                           void *ctx);

/* Feeds base[from, to). While the head arrives `base` must hold the message
 * from its first byte (it may move between calls; req->base follows), because
 * spans are offsets from it; the first feed's `from` is where it begins. Once
 * the head is done any buffer will do, also an empty one.
 * *used: how many of the bytes were consumed. */
enum moon_http_in_result moon_http_in_feed(struct moon_http_in *in,
                                           const char *base, size_t from,
                                           size_t to, size_t *used);

/* After MOON_IN_HEAD: does any body follow? If not, the next feed returns
 * MOON_IN_COMPLETE at once, and may be left out. */
static inline bool moon_http_in_expects_body(const struct moon_http_in *in)
{
    return in->req->chunked || in->req->content_length > 0;
}

#endif
