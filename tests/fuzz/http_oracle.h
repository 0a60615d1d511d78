/* A second, slow and simple reading of HTTP/1.x requests, to compare http_in
 * with: RFC 9112 line by line, with the whole message in memory, sharing no
 * code with what it judges. */
#ifndef MOON_TESTS_FUZZ_HTTP_ORACLE_H
#define MOON_TESTS_FUZZ_HTTP_ORACLE_H

#include "base/buf.h"

enum { ORACLE_FIELDS = 200 };
#define ORACLE_FAR UINT64_MAX /* a length of more than 18 digits */

enum oracle_verdict {
    ORACLE_BAD,   /* must be refused */
    ORACLE_CUT,   /* nothing wrong so far, and it goes on */
    ORACLE_LAX,   /* may be refused: legal, but odd */
    ORACLE_CLEAN, /* must be accepted, as long as no limit is passed */
};

struct oracle_head {
    struct moon_str method, target;
    int minor;
    struct moon_str names[ORACLE_FIELDS], values[ORACLE_FIELDS];
    size_t count;
    size_t len; /* with the empty line */
    bool chunked;
    bool has_length;
    uint64_t length;
    bool close, keep_alive;
};

/* Of the message that begins at bytes.ptr. */
enum oracle_verdict oracle_read_head(struct moon_str bytes,
                                     struct oracle_head *head);
/* Of the body that begins at bytes.ptr; what it decodes to is appended to
 * *body, and *used is how long it is on the wire. */
enum oracle_verdict oracle_read_body(const struct oracle_head *head,
                                     struct moon_str bytes,
                                     struct moon_buf *body, size_t *used);

#endif
