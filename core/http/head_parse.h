/* What the parts of a request head mean, one by one and together (RFC 9112
 * sections 3, 5 and 6), where llhttp has no opinion or a lax one.
 *
 * Gets the parts when they are complete, as spans of req->base in which llhttp
 * has let through no control byte other than HTAB. Part of http_in. */
#ifndef MOON_HTTP_HEAD_PARSE_H
#define MOON_HTTP_HEAD_PARSE_H

#include "base/compiler.h"
#include "http/request.h"

/* What can be wrong with a head, the status that says so, and static text for
 * the log and the answer. */
#define MOON_HEAD_MAP(X)                                                       \
    X(OK, 0, NULL)                                                             \
    X(BAD_LINE, 400, "malformed request line")                                 \
    X(BAD_TARGET, 400, "malformed request target")                             \
    X(BAD_STAR, 400, "only OPTIONS may ask for *")                             \
    X(BAD_FIELD, 400, "malformed field line")                                  \
    X(BAD_HOST, 400, "malformed Host")                                         \
    X(BAD_LENGTH, 400, "malformed Content-Length")                             \
    X(BAD_CODING, 400, "a Transfer-Encoding that does not end in one chunked") \
    X(NO_HOST, 400, "no Host")                                                 \
    X(TWO_HOSTS, 400, "more than one Host")                                    \
    X(FRAMING, 400, "several Content-Lengths, or one and Transfer-Encoding")   \
    X(OLD_CODING, 400, "Transfer-Encoding in HTTP/1.0")                        \
    X(LONG_LINE, 414, "request line too long")                                 \
    X(LARGE, 431, "header fields too large")                                   \
    X(MANY, 431, "too many header fields")                                     \
    X(CONNECT, 501, "CONNECT is not supported")                                \
    X(CODING, 501, "a transfer coding other than chunked")                     \
    X(MEMORY, 503, "out of memory")                                            \
    X(VERSION, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")

enum moon_head {
#define X(name, status, why) MOON_HEAD_##name,
    MOON_HEAD_MAP(X)
#undef X
};

struct moon_head_fault {
    uint16_t status;
    const char *why;
};
extern const struct moon_head_fault moon_head_faults[];

/* What the fields said so far. */
struct moon_head_notes {
    bool host, upgrade;
    bool close, keep_alive, connection_upgrade;
};

/* The request line starts at `line`, the next line at `next`; req->target and
 * req->method are what llhttp has found. */
MOON_MUST_CHECK enum moon_head moon_head_request_line(struct moon_request *req,
                                                      uint32_t line,
                                                      uint32_t next);

/* What is wrong with a version that starts at `at`, of which `len` bytes are
 * there; a good one counts as a malformed line. */
enum moon_head moon_head_version_fault(const char *at, size_t len);

/* Rules out nearly all fields that moon_head_field has nothing to say of, by
 * length and first letter: host, expect, upgrade, connection,
 * transfer-encoding. */
static inline bool moon_head_may_know(struct moon_str name)
{
    static const char first[] = {
        [4] = 'h', [6] = 'e', [7] = 'u', [10] = 'c', [17] = 't'};
    return name.len < sizeof(first) && first[name.len] == (name.ptr[0] | 0x20);
}

/* After each field that may be known. */
MOON_MUST_CHECK enum moon_head moon_head_field(struct moon_request *req,
                                               struct moon_head_notes *notes,
                                               const struct moon_field *field);

/* After the last field. */
MOON_MUST_CHECK enum moon_head moon_head_end(
    struct moon_request *req, const struct moon_head_notes *notes);

#endif
