/* A response head to bytes (RFC 9112). No I/O.
 *
 * The Date line is formatted once a second and kept per thread. */
#ifndef MOON_HTTP_HTTP_OUT_H
#define MOON_HTTP_HTTP_OUT_H

#include "base/buf.h"
#include "http/request.h"
#include "http/response.h"

enum moon_out_framing {
    MOON_OUT_NONE,    /* no content and none announced: 204, 304, 1xx */
    MOON_OUT_LENGTH,  /* Content-Length: content_length */
    MOON_OUT_CHUNKED, /* Transfer-Encoding: chunked */
    MOON_OUT_CLOSE,   /* until the connection closes (HTTP/1.0) */
};

struct moon_out_head {
    enum moon_out_framing framing;
    uint64_t content_length;
    bool keep_alive; /* what the connection will do after this response */
    uint8_t minor;   /* of the request: HTTP/1.0 keep-alive must be said */
    struct moon_str content_type; /* used if no such field is set; may be
                                     empty */
};

/* Appends the head with the final CRLF; a failed buf says memory is out. */
void moon_http_out_head(struct moon_buf *out, const struct moon_response *res,
                        const struct moon_out_head *head);

/* Chunk framing around `len` bytes: size line before, CRLF after. */
void moon_http_out_chunk_begin(struct moon_buf *out, size_t len);
#define MOON_OUT_CHUNK_END MOON_STR("\r\n")
#define MOON_OUT_LAST_CHUNK MOON_STR("0\r\n\r\n")
#define MOON_OUT_CONTINUE MOON_STR("HTTP/1.1 100 Continue\r\n\r\n")

#endif
