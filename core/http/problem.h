/* The built-in body of an error answer: small HTML for browsers, else
 * application/problem+json (RFC 9457). */
#ifndef MOON_HTTP_PROBLEM_H
#define MOON_HTTP_PROBLEM_H

#include "base/buf.h"

/* Is text/html explicitly preferred over JSON? `accept` may be empty. */
bool moon_problem_prefers_html(struct moon_str accept);

/* Appends the body to `out` and returns its content type. `accept` is the
 * request's Accept value. `detail` may be empty; `details_json` becomes member
 * "details" if not empty; `request_id` member "request_id". */
struct moon_str moon_problem_write(int status, struct moon_str accept,
                                   struct moon_str detail,
                                   struct moon_str details_json,
                                   struct moon_str request_id,
                                   struct moon_buf *out);

#endif
