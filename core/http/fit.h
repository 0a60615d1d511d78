/* Why a pattern takes a path, or why not: what the router decides, in words
 * for people.
 *
 * Looks at one pattern at a time and knows no methods. Slow, pure, for
 * `moonshine route`; no request comes here. */
#ifndef MOON_HTTP_FIT_H
#define MOON_HTTP_FIT_H

#include "base/buf.h"
#include "http/path.h"
#include "http/pattern.h"

enum moon_fit_kind {
    MOON_FIT_YES,
    MOON_FIT_SLASH, /* but for the slash at the end */
    MOON_FIT_TYPE,  /* but for a value that is not of its parameter's type */
    MOON_FIT_TEXT,  /* a static segment is another one */
    MOON_FIT_SHORT, /* the path ends before the pattern does */
    MOON_FIT_LONG,  /* the path goes on */
};

struct moon_fit {
    enum moon_fit_kind kind;
    uint32_t at;     /* the first segment that does not fit */
    size_t distance; /* how many letters are wrong, about; 0: it fits */
};

struct moon_fit moon_fit_of(const struct moon_pattern *pattern,
                            const struct moon_path *path);
/* Might somebody have meant it? */
bool moon_fit_is_near(const struct moon_fit *fit,
                      const struct moon_pattern *pattern,
                      const struct moon_path *path);
/* "id: 'x' is not an <int>"; nothing if it fits. */
void moon_fit_explain(const struct moon_fit *fit,
                      const struct moon_pattern *pattern,
                      const struct moon_path *path, struct moon_buf *out);

/* Of two patterns that fit one path, which does the router try first? Negative:
 * a. *at is the part that decides. 0: they differ in names only, if at all. */
int moon_pattern_order(const struct moon_pattern *a,
                       const struct moon_pattern *b, uint32_t *at);
/* "a static segment", "an <int>": what a part is, for the reason why. */
struct moon_str moon_part_kind(const struct moon_pattern *pattern, uint32_t at);

#endif
