/* HTTP dates (RFC 9110 section 5.6.7), always in GMT, without locale. */
#ifndef MOON_HTTP_HTTP_DATE_H
#define MOON_HTTP_HTTP_DATE_H

#include "base/str.h"

#include <time.h>

/* "Sun, 06 Nov 1994 08:49:37 GMT", 29 bytes and a NUL. Years outside 0 to
 * 9999 are written as the nearest of these. */
void moon_http_date_write(time_t when, char out[30]);
/* All three formats of RFC 9110; false for anything else. */
bool moon_http_date_parse(struct moon_str text, time_t *out);

#endif
