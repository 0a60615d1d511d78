/* A request path, split at raw '/', percent-decoded and without its dot
 * segments (RFC 3986 section 5.2.4).
 *
 * Split before decoding, so that %2F never separates; "%2e" counts as a dot.
 * Segments are slices of the path, or lie in the arena if they had to be
 * decoded. */
#ifndef MOON_HTTP_PATH_H
#define MOON_HTTP_PATH_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/errcode.h"

enum { MOON_SEGMENTS_MAX = 64 };

struct moon_segment {
    struct moon_str text;
    uint32_t hash; /* moon_segment_hash(text) */
};

struct moon_path {
    uint32_t count;
    bool slash;   /* it ends in '/'; always so if there is no segment */
    bool empty;   /* a segment is empty */
    bool changed; /* something was decoded or resolved */
    struct moon_segment segments[MOON_SEGMENTS_MAX];
};

uint32_t moon_segment_hash(struct moon_str text);

/* MOON_EPROTO: a bad escape, an encoded NUL, no '/' at the start.
 * MOON_ETOO_BIG: too many segments. */
MOON_MUST_CHECK enum moon_err moon_path_split(struct moon_str path,
                                              struct moon_arena *arena,
                                              struct moon_path *out);

/* Segments from the nth on as text without a leading '/', in the arena if the
 * path was changed. A '/' inside a segment is written "%2F" again. ptr is NULL
 * when memory is out. */
MOON_MUST_CHECK struct moon_str moon_path_join(const struct moon_path *path,
                                               struct moon_str raw,
                                               uint32_t nth,
                                               struct moon_arena *arena);

/* The decoded, dot-resolved path: what c:path() shows and static files use.
 * In the arena, or `path` itself if nothing changes. A %2F stays "%2F". Errors
 * as for split. */
MOON_MUST_CHECK enum moon_err moon_path_normalise(struct moon_str path,
                                                  struct moon_arena *arena,
                                                  struct moon_str *out);

/* Appends the path with the slash at its end added or removed, encoded. Without
 * dot segments, which would come back with the other slash for ever, and never
 * with two slashes at the start, which a browser would take for a host. */
void moon_path_other_slash(const struct moon_path *path, struct moon_buf *out);

#endif
