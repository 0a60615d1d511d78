/* Which bytes may stand where in a message head (RFC 9110 section 5.6.2 and
 * 5.5): one table for all that check. */
#ifndef MOON_HTTP_TOKEN_H
#define MOON_HTTP_TOKEN_H

#include "base/str.h"

enum moon_char_class {
    MOON_CHAR_TOKEN = 1,      /* tchar: methods, field names, cookie names */
    MOON_CHAR_VALUE = 2,      /* field values: HTAB, SP, VCHAR, obs-text */
    MOON_CHAR_HOST = 4,       /* reg-name, RFC 3986 section 3.2.2 */
    MOON_CHAR_LITERAL = 8,    /* inside the brackets of an IP literal */
    MOON_CHAR_COOKIE = 16,    /* cookie-octet, RFC 6265 section 4.1.1 */
    MOON_CHAR_UNRESERVED = 64 /* RFC 3986 section 2.3 */
};

extern const uint8_t moon_char_table[256];

static inline bool moon_char_is(char ch, enum moon_char_class which)
{
    return (moon_char_table[(unsigned char)ch] & which) != 0;
}

/* Are all bytes of that class? True for an empty string. */
bool moon_str_is(struct moon_str s, enum moon_char_class which);

/* A non-empty token? */
static inline bool moon_str_is_token(struct moon_str s)
{
    return s.len > 0 && moon_str_is(s, MOON_CHAR_TOKEN);
}

/* Takes the next element off a comma separated list, trimmed; empty elements
 * are skipped, commas inside quoted strings do not separate. False at the
 * end. */
bool moon_list_next(struct moon_str *rest, struct moon_str *element);

#endif
