/* HTTP status codes and their reason phrases (RFC 9110 section 15 and the IANA
 * registry). Plain integers; never mixed with enum moon_err. */
#ifndef MOON_HTTP_STATUS_H
#define MOON_HTTP_STATUS_H

#include "base/str.h"

/* "OK" for 200; "Unknown" for a code that is not registered. */
struct moon_str moon_status_reason(int status);

/* The whole line with its CRLF, "HTTP/1.1 200 OK\r\n"; ptr is NULL for a code
 * that is not registered. */
struct moon_str moon_status_line(int status);

/* 1xx, 204 and 304 never carry content (RFC 9110 section 6.4.1). */
static inline bool moon_status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

#endif
