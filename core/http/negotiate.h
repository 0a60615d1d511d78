/* Reading of header values that choose among representations. */
#ifndef MOON_HTTP_NEGOTIATE_H
#define MOON_HTTP_NEGOTIATE_H

#include "base/buf.h"
#include "base/errcode.h"
#include "http/content_type.h"
#include "http/http_date.h"

/* Index of the type in `offers` ("text/html", ...) that an Accept value likes
 * best, by quality, then specificity, then order of offers; -1 if it accepts
 * none. An empty Accept takes the first (RFC 9110 section 12.5.1). */
int moon_accept_best(struct moon_str accept, const struct moon_str *offers,
                     size_t count);

/* Does an If-None-Match / If-Match value list this ETag, or "*"? `weak`
 * chooses weak comparison. */
bool moon_etag_listed(struct moon_str list, struct moon_str etag, bool weak);

struct moon_range {
    uint64_t from, length;
};
enum moon_range_result {
    MOON_RANGE_NONE,         /* no or malformed Range: send all (200) */
    MOON_RANGE_ONE,          /* *out is the part (206) */
    MOON_RANGE_UNSATISFIABLE /* 416 */
};
/* One byte range; several ranges count as NONE (RFC 9110 section 14.2 lets a
 * server ignore Range), which bounds the work of a hostile request. */
enum moon_range_result moon_range_parse(struct moon_str value, uint64_t size,
                                        struct moon_range *out);

#endif
