#include "http/path.h"

#include "http/query.h"

/* FNV-1a. The router's tables hold what an application registers, so nobody
 * can flood them. */
static const uint32_t HASH_SEED = 0x811c9dc5u, HASH_PRIME = 0x01000193u;

uint32_t moon_segment_hash(struct moon_str text)
{
    uint32_t hash = HASH_SEED;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.ptr[i]) * HASH_PRIME;
    return hash;
}

static enum moon_err decode(struct moon_segment *segment,
                            struct moon_arena *arena)
{
    enum moon_err err =
        moon_percent_decode(segment->text, false, arena, &segment->text);
    if (err != MOON_OK)
        return err;
    if (memchr(segment->text.ptr, '\0', segment->text.len) != NULL)
        return MOON_EPROTO;
    segment->hash = moon_segment_hash(segment->text);
    return MOON_OK;
}

/* 1 for ".", 2 for "..", else 0. */
static unsigned dots_of(struct moon_str text)
{
    if (text.len == 0 || text.len > 2 || text.ptr[0] != '.' ||
        text.ptr[text.len - 1] != '.')
        return 0;
    return (unsigned)text.len;
}

static enum moon_err add(struct moon_path *out, struct moon_segment segment,
                         bool last)
{
    unsigned dots = dots_of(segment.text);
    out->slash = last && (dots > 0 || segment.text.len == 0);
    if (MOON_UNLIKELY(dots > 0)) {
        out->changed = true;
        if (dots == 2 && out->count > 0)
            out->count--;
    } else if (!out->slash) {
        if (out->count == MOON_SEGMENTS_MAX)
            return MOON_ETOO_BIG;
        out->segments[out->count++] = segment;
    }
    return MOON_OK;
}

enum moon_err moon_path_split(struct moon_str path, struct moon_arena *arena,
                              struct moon_path *out)
{
    out->count = 0;
    out->slash = out->empty = out->changed = false;
    if (path.len == 0 || path.ptr[0] != '/')
        return MOON_EPROTO;
    const char *at = path.ptr, *end = path.ptr + path.len;
    while (at < end) {
        const char *start = ++at;
        uint32_t hash = HASH_SEED;
        bool escaped = false;
        for (; at < end && *at != '/'; at++) {
            escaped |= *at == '%';
            hash = (hash ^ (unsigned char)*at) * HASH_PRIME;
        }
        struct moon_segment segment = {moon_str(start, (size_t)(at - start)),
                                       hash};
        enum moon_err err = MOON_OK;
        if (MOON_UNLIKELY(escaped)) {
            out->changed = true;
            err = decode(&segment, arena);
        }
        if (err == MOON_OK)
            err = add(out, segment, at == end);
        if (MOON_UNLIKELY(err != MOON_OK))
            return err;
    }
    for (uint32_t i = 0; i < out->count; i++)
        out->empty |= out->segments[i].text.len == 0;
    return MOON_OK;
}

static char *put_segment(char *to, struct moon_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '/') {
            memcpy(to, "%2F", 3);
            to += 3;
        } else {
            *to++ = text.ptr[i];
        }
    }
    return to;
}

struct moon_str moon_path_join(const struct moon_path *path,
                               struct moon_str raw, uint32_t nth,
                               struct moon_arena *arena)
{
    if (nth >= path->count)
        return MOON_STR("");
    const char *from = path->segments[nth].text.ptr;
    if (!path->changed)
        return moon_str(from, (size_t)(raw.ptr + raw.len - from));
    size_t bound = 0;
    for (uint32_t i = nth; i < path->count; i++)
        bound += 3 * path->segments[i].text.len + 1;
    char *text = moon_arena_alloc(arena, bound);
    if (text == NULL)
        return MOON_STR_NONE;
    char *to = text;
    for (uint32_t i = nth; i < path->count; i++) {
        to = put_segment(to, path->segments[i].text);
        if (i + 1 < path->count || path->slash)
            *to++ = '/';
    }
    return moon_str(text, (size_t)(to - text));
}

/* Most paths need no work: no escape, and no segment starts with a dot. "*"
 * needs none either. */
static bool is_normal(struct moon_str path)
{
    char before = '\0';
    for (size_t i = 0; i < path.len; i++) {
        char ch = path.ptr[i];
        if (MOON_UNLIKELY(ch == '%' || (ch == '.' && before == '/')))
            return false;
        before = ch;
    }
    return true;
}

enum moon_err moon_path_normalise(struct moon_str path,
                                  struct moon_arena *arena,
                                  struct moon_str *out)
{
    struct moon_path parts;
    *out = path;
    if (is_normal(path))
        return MOON_OK;
    enum moon_err err = moon_path_split(path, arena, &parts);
    if (err != MOON_OK || !parts.changed)
        return err;
    struct moon_str rest = moon_path_join(&parts, path, 0, arena);
    if (rest.ptr == NULL)
        return MOON_ENOMEM;
    char *text = moon_arena_alloc(arena, rest.len + 1);
    if (text == NULL)
        return MOON_ENOMEM;
    text[0] = '/';
    if (rest.len > 0)
        memcpy(text + 1, rest.ptr, rest.len);
    *out = moon_str(text, rest.len + 1);
    return MOON_OK;
}

void moon_path_other_slash(const struct moon_path *path, struct moon_buf *out)
{
    for (uint32_t i = 0; i < path->count; i++) {
        if (path->segments[i].text.len == 0)
            continue;
        moon_buf_addz(out, "/");
        moon_percent_encode(path->segments[i].text, out);
    }
    if (!path->slash || path->count == 0)
        moon_buf_addz(out, "/");
}
