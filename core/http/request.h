/* One parsed request head, as offsets into the read buffer that holds it.
 *
 * Offsets, not pointers: while a head arrives in several reads the buffer may
 * move. Owned by the exchange; valid until that ends. Filled by http_in, then
 * only read. */
#ifndef MOON_HTTP_REQUEST_H
#define MOON_HTTP_REQUEST_H

#include "base/arena.h"
#include "http/method.h"

#include <stdint.h>

struct moon_span {
    uint32_t off, len;
};

struct moon_field {
    struct moon_span name, value; /* value without surrounding white space */
};

enum { MOON_FIELDS_INLINE = 24 };

struct moon_request {
    const char *base; /* borrowed: the read buffer; set again when it moves */
    struct moon_span method_text, target;
    struct moon_span path, query; /* the target, split at the first '?' */
    enum moon_method method;
    uint8_t minor;        /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;      /* what the client asks for and the version allows */
    bool expect_continue; /* Expect: 100-continue */
    bool chunked;
    bool upgrade;           /* an Upgrade header with Connection: upgrade */
    int64_t content_length; /* -1: none given */
    struct moon_span host;  /* Host, or the authority of an absolute target */
    uint32_t field_count;
    uint32_t field_cap;
    struct moon_field *fields; /* inline_fields, or the arena's */
    struct moon_field inline_fields[MOON_FIELDS_INLINE];
};

static inline struct moon_str moon_request_str(const struct moon_request *req,
                                               struct moon_span span)
{
    return moon_str(req->base + span.off, span.len);
}

/* Value of the nth (from 0) field of that name, compared without case; false
 * if there is none. */
bool moon_request_header(const struct moon_request *req, struct moon_str name,
                         uint32_t nth, struct moon_str *out);

#endif
