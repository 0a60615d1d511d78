/* Request methods that a route can name (RFC 9110 section 9), and a set of
 * them. Any other token is MOON_METHOD_OTHER: it matches only `any` routes. */
#ifndef MOON_HTTP_METHOD_H
#define MOON_HTTP_METHOD_H

#include "base/str.h"

#define MOON_METHOD_MAP(X) \
    X(GET)                 \
    X(HEAD)                \
    X(POST)                \
    X(PUT)                 \
    X(PATCH)               \
    X(DELETE)              \
    X(OPTIONS)             \
    X(OTHER)

enum moon_method {
#define X(name) MOON_METHOD_##name,
    MOON_METHOD_MAP(X)
#undef X
        MOON_METHOD_COUNT
};

#define MOON_METHOD_BIT(method) (1u << (method))

/* OTHER for an unknown token. */
enum moon_method moon_method_parse(struct moon_str token);
struct moon_str moon_method_name(enum moon_method method);

/* "GET, HEAD": the set, without OTHER, as a field value. */
enum { MOON_METHODS_TEXT = 64 };
struct moon_str moon_methods_text(uint32_t set, char to[MOON_METHODS_TEXT]);

#endif
