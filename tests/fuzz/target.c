/* The path of a request target: split, decoded and resolved, then written
 * again; and the percent coding below it. */
#include "fuzz.h"

#include "http/path.h"
#include "http/query.h"

static bool is_dots(struct moon_str s)
{
    return moon_str_eq(s, MOON_STR(".")) || moon_str_eq(s, MOON_STR(".."));
}

/* RFC 3986 section 5.2.4 the slow way: the depth that is left. */
static uint32_t depth_of(struct moon_str path, struct moon_arena *arena)
{
    uint32_t depth = 0;
    struct moon_str rest = moon_str(path.ptr + 1, path.len - 1);
    for (bool more = true; more;) {
        more = memchr(rest.ptr, '/', rest.len) != NULL;
        struct moon_str text = moon_str_cut(rest, '/', &rest);
        FUZZ_CHECK(moon_percent_decode(text, false, arena, &text) == MOON_OK);
        if (moon_str_eq(text, MOON_STR("..")))
            depth -= depth > 0;
        else if (!moon_str_eq(text, MOON_STR(".")) && (more || text.len > 0))
            depth++;
    }
    return depth;
}

static void check_segments(const struct moon_path *path)
{
    bool empty = false;
    FUZZ_CHECK(path->count <= MOON_SEGMENTS_MAX);
    FUZZ_CHECK(path->count > 0 || path->slash);
    for (uint32_t i = 0; i < path->count; i++) {
        struct moon_str text = path->segments[i].text;
        empty |= text.len == 0;
        FUZZ_CHECK(!is_dots(text));
        FUZZ_CHECK(text.len == 0 || memchr(text.ptr, '\0', text.len) == NULL);
        FUZZ_CHECK(path->segments[i].hash == moon_segment_hash(text));
    }
    FUZZ_CHECK(path->empty == empty);
}

static void check_same(const struct moon_path *a, const struct moon_path *b)
{
    FUZZ_CHECK(a->count == b->count);
    FUZZ_CHECK(a->slash == b->slash);
    for (uint32_t i = 0; i < a->count; i++)
        FUZZ_CHECK(moon_str_eq(a->segments[i].text, b->segments[i].text));
}

/* Encoded again it means the same. */
static void check_encoded(const struct moon_path *path,
                          struct moon_arena *arena)
{
    static struct moon_path again;
    struct moon_buf text = {0};
    for (uint32_t i = 0; i < path->count; i++) {
        moon_buf_add_char(&text, '/');
        moon_percent_encode(path->segments[i].text, &text);
    }
    if (path->slash)
        moon_buf_add_char(&text, '/');
    struct moon_str copy = fuzz_copy(moon_buf_str(&text));
    FUZZ_CHECK(moon_path_split(copy, arena, &again) == MOON_OK);
    check_same(path, &again);
    fuzz_free(copy);
    moon_buf_deinit(&text);
}

/* A redirect leads to the same path with the other slash, on this host. */
static void check_other_slash(const struct moon_path *path,
                              struct moon_arena *arena)
{
    static struct moon_path other;
    struct moon_buf text = {0};
    if (path->empty || path->count == 0)
        return;
    moon_path_other_slash(path, &text);
    FUZZ_CHECK(text.len > 0 && text.ptr[0] == '/');
    FUZZ_CHECK(text.len == 1 || text.ptr[1] != '/');
    FUZZ_CHECK(moon_path_split(moon_buf_str(&text), arena, &other) == MOON_OK);
    other.slash = !other.slash;
    check_same(path, &other);
    moon_buf_deinit(&text);
}

static void check_normal(struct moon_str path, const struct moon_path *parts,
                         struct moon_arena *arena)
{
    struct moon_str normal;
    FUZZ_CHECK(moon_path_normalise(path, arena, &normal) == MOON_OK);
    FUZZ_CHECK(normal.len > 0 && normal.ptr[0] == '/');
    FUZZ_CHECK(memchr(normal.ptr, '\0', normal.len) == NULL);
    struct moon_str rest = moon_str(normal.ptr + 1, normal.len - 1);
    for (uint32_t count = 0; rest.len > 0; count++) {
        struct moon_str text = moon_str_cut(rest, '/', &rest);
        FUZZ_CHECK(!is_dots(text));
        FUZZ_CHECK(count < parts->count);
    }
    FUZZ_CHECK((normal.ptr[normal.len - 1] == '/') == parts->slash);
}

/* Any bytes survive being encoded, and nobody has to decode what is plain. */
static void check_percent(struct moon_str bytes, struct moon_arena *arena)
{
    struct moon_buf text = {0};
    struct moon_str back;
    moon_percent_encode(bytes, &text);
    for (int plus = 0; plus < 2; plus++) {
        FUZZ_CHECK(moon_percent_decode(moon_buf_str(&text), plus, arena,
                                       &back) == MOON_OK);
        FUZZ_CHECK(moon_str_eq(back, bytes));
    }
    moon_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct moon_path path;
    struct moon_arena arena;
    if (size == 0 || memchr(data, '\0', size) != NULL)
        return 0; /* http_in lets no NUL through */
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    moon_arena_init(&arena, NULL, 0);
    check_percent(text, &arena);
    enum moon_err err = moon_path_split(text, &arena, &path);
    if (err == MOON_OK) {
        check_segments(&path);
        FUZZ_CHECK(path.count == depth_of(text, &arena));
        check_encoded(&path, &arena);
        check_other_slash(&path, &arena);
        check_normal(text, &path, &arena);
    } else {
        struct moon_str normal;
        FUZZ_CHECK(err == MOON_EPROTO || err == MOON_ETOO_BIG);
        enum moon_err found = moon_path_normalise(text, &arena, &normal);
        FUZZ_CHECK(found == err ||
                   (found == MOON_OK && moon_str_eq(normal, text)));
        FUZZ_CHECK(data[0] != '/' || found == err || err == MOON_ETOO_BIG);
    }
    moon_arena_reset(&arena);
    fuzz_free(text);
    return 0;
}
