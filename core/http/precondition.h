/* The preconditions of a request (RFC 9110 section 13): may it go on, and does
 * the client have the answer already? Stateless; any thread. */
#ifndef MOON_HTTP_PRECONDITION_H
#define MOON_HTTP_PRECONDITION_H

#include "http/request.h"

#include <time.h>

/* What is there now. */
struct moon_validators {
    struct moon_str etag; /* quoted, maybe weak; empty: nothing is there */
    time_t mtime;
    bool has_mtime; /* else the conditions on dates are ignored */
};

/* Does any field of that name list the entity tag, or "*"? The lists of
 * several fields count as one. */
bool moon_condition_lists(const struct moon_request *req, const char *namez,
                          struct moon_str etag, bool weak);

/* If-Match, else If-Unmodified-Since, forbids the request: 412. */
bool moon_precondition_fails(const struct moon_request *req,
                             const struct moon_validators *now);

/* If-None-Match, else If-Modified-Since, of a GET or HEAD says that the client
 * has it: 304. */
bool moon_is_unchanged(const struct moon_request *req,
                       const struct moon_validators *now);

#endif
