/* application/x-www-form-urlencoded text, cookies, and percent encoding. */
#ifndef MOON_HTTP_QUERY_H
#define MOON_HTTP_QUERY_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/errcode.h"

/* Takes the next name=value pair off *rest, decoded ('+' is a space; a bad
 * escape stays as it is) into the arena when it differs from the raw bytes.
 * False at the end. Empty pairs are skipped. NOMEM shows as name.ptr NULL. */
bool moon_query_next(struct moon_str *rest, struct moon_arena *arena,
                     struct moon_str *name, struct moon_str *value);

/* Takes the next cookie off *rest (RFC 6265 section 5.4); value without its
 * optional quotes. Borrowed from the header. False at the end. */
bool moon_cookie_next(struct moon_str *rest, struct moon_str *name,
                      struct moon_str *value);

struct moon_set_cookie {
    struct moon_str name, value;
    struct moon_str path, domain, same_site; /* "Strict", "Lax" or "None" */
    int64_t max_age_s;                       /* -1: a session cookie */
    bool secure, http_only;
};
/* Appends the value of a Set-Cookie field, or says in `error` what is not
 * allowed: a name that is no token, a value with control bytes, space, comma,
 * semicolon, backslash or quote; __Host- and __Secure- prefixes without what
 * they require; SameSite=None without Secure. */
MOON_MUST_CHECK enum moon_err moon_set_cookie_write(
    const struct moon_set_cookie *cookie, struct moon_buf *out, char *error,
    size_t error_size);

/* Percent-decodes; MOON_EPROTO on a bad escape. `plus` makes '+' a space. */
MOON_MUST_CHECK enum moon_err moon_percent_decode(struct moon_str in, bool plus,
                                                  struct moon_arena *arena,
                                                  struct moon_str *out);
/* Encodes all but unreserved characters (RFC 3986 section 2.3). */
void moon_percent_encode(struct moon_str in, struct moon_buf *out);

#endif
