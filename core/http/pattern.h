/* A route pattern, parsed: "/users/:id<int>/files/" or "/static/" followed by
 * "*rest".
 *
 * Static segments are percent-decoded like those of a path, so both are
 * written the same way. Used by the router and to build URLs. */
#ifndef MOON_HTTP_PATTERN_H
#define MOON_HTTP_PATTERN_H

#include "base/arena.h"
#include "http/path.h"

enum { MOON_PARAMS_MAX = 16 };

enum moon_param_type {
    MOON_PARAM_PLAIN,
    MOON_PARAM_INT,  /* 1 to 15 digits */
    MOON_PARAM_UUID, /* 8-4-4-4-12 hex digits */
    MOON_PARAM_ALPHA,
    MOON_PARAM_REST, /* *name, last; no leading slash, may be empty */
    MOON_PARAM_TYPES
};

struct moon_pattern_part {
    struct moon_str text; /* the static text, or the parameter's name */
    bool is_param;
    enum moon_param_type type;
};

struct moon_pattern {
    uint32_t count, param_count;
    bool slash; /* it ends in '/' */
    struct moon_pattern_part parts[MOON_SEGMENTS_MAX];
};

/* Text lies in `pattern` or the arena. On MOON_EINVAL `error` says why. */
MOON_MUST_CHECK enum moon_err moon_pattern_parse(struct moon_str pattern,
                                                 struct moon_arena *arena,
                                                 struct moon_pattern *out,
                                                 char *error,
                                                 size_t error_size);

/* Does a decoded value fit the type? A rest always does. */
bool moon_param_fits(enum moon_param_type type, struct moon_str value);

#endif
