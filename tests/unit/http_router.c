#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http/router.h"

enum { TEXT = 1024 };

static enum moon_err add(struct moon_router *router, const char *methods,
                         const char *pattern, int id, int *other, char *error)
{
    uint32_t set = 0;
    bool any = strcmp(methods, "any") == 0;
    struct moon_str rest = moon_strz(methods);
    while (!any && rest.len > 0) {
        struct moon_str name = moon_str_cut(rest, ' ', &rest);
        set |= MOON_METHOD_BIT(moon_method_parse(name));
    }
    return moon_router_add(router, set, any, moon_strz(pattern), id, other,
                           error, TEXT);
}

struct route {
    const char *methods, *pattern;
};

/* Registers the routes under ids 1, 2, ... */
static struct moon_router *build(const struct route *routes, size_t count)
{
    struct moon_router *router = moon_router_create();
    char error[TEXT] = "";
    int other;
    assert_non_null(router);
    for (size_t i = 0; i < count; i++) {
        if (add(router, routes[i].methods, routes[i].pattern, (int)i + 1,
                &other, error) != MOON_OK)
            fail_msg("%s: %s", routes[i].pattern, error);
    }
    return router;
}

/* "1 id=5 ..." or "none allowed=GET,HEAD owner=1 sibling" or "malformed". */
static void match(const struct moon_router *router, const char *method,
                  const char *path, char text[TEXT])
{
    struct moon_arena arena;
    struct moon_match found;
    moon_arena_init(&arena, NULL, 0);
    char *copy = malloc(strlen(path) + 1); /* exact: ASan sees an overrun */
    memcpy(copy, path, strlen(path));
    enum moon_err err =
        moon_router_match(router, moon_method_parse(moon_strz(method)),
                          moon_str(copy, strlen(path)), &arena, &found);
    int at = 0;
    if (err == MOON_EPROTO) {
        (void)snprintf(text, TEXT, "malformed");
    } else if (found.route != MOON_NO_ROUTE) {
        at += snprintf(text, TEXT, "%d", found.route);
        for (uint32_t i = 0; i < found.param_count; i++)
            at += snprintf(text + at, (size_t)(TEXT - at), " %.*s=%.*s",
                           MOON_STR_ARG(found.params[i].name),
                           MOON_STR_ARG(found.params[i].value));
    } else {
        at += snprintf(text, TEXT, "none");
        for (int m = 0; m < MOON_METHOD_COUNT; m++) {
            if (found.allowed & MOON_METHOD_BIT(m))
                at += snprintf(text + at, (size_t)(TEXT - at), " %s",
                               moon_method_name((enum moon_method)m).ptr);
        }
        if (found.owner != MOON_NO_ROUTE)
            at += snprintf(text + at, (size_t)(TEXT - at), " owner=%d",
                           found.owner);
        if (found.slash_sibling)
            (void)snprintf(text + at, (size_t)(TEXT - at), " sibling");
    }
    free(copy);
    moon_arena_reset(&arena);
}

struct sample {
    const char *method, *path, *want;
};

static void check(const struct moon_router *router,
                  const struct sample *samples, size_t count)
{
    char text[TEXT];
    for (size_t i = 0; i < count; i++) {
        match(router, samples[i].method, samples[i].path, text);
        if (strcmp(text, samples[i].want) != 0)
            fail_msg("%s %s gives '%s', not '%s'", samples[i].method,
                     samples[i].path, text, samples[i].want);
    }
}

#define UUID "123e4567-e89b-12d3-a456-426614174000"

static void more_specific_routes_win(void **state)
{
    (void)state;
    static const struct route routes[] = {
        {"GET", "/*all"},             /* 1 */
        {"GET", "/u/:name"},          /* 2 */
        {"GET", "/u/:id<int>"},       /* 3 */
        {"GET", "/u/me"},             /* 4 */
        {"GET", "/u/:id<uuid>"},      /* 5 */
        {"GET", "/u/:word<alpha>"},   /* 6 */
        {"GET", "/u/:id<int>/posts"}, /* 7 */
        {"GET", "/u/:name/posts/:p"}, /* 8 */
        {"GET", "/u/me/*rest"},       /* 9 */
        {"GET", "/"},                 /* 10 */
        {"GET", "/a/:b<int>/c"},      /* 11 */
        {"GET", "/a/:b/d"},           /* 12 */
    };
    static const struct sample samples[] = {
        {"GET", "/", "10"},
        {"GET", "/x", "1 all=x"},
        {"GET", "/x/y/", "1 all=x/y/"},
        {"GET", "/u/me", "4"},
        {"GET", "/u/7", "3 id=7"},
        {"GET", "/u/123456789012345", "3 id=123456789012345"},
        {"GET", "/u/1234567890123456", "2 name=1234567890123456"},
        {"GET", "/u/" UUID, "5 id=" UUID},
        {"GET", "/u/you", "6 word=you"},
        {"GET", "/u/you2", "2 name=you2"},
        {"GET", "/u/7/posts", "7 id=7"},
        {"GET", "/u/me/posts", "9 rest=posts"},
        {"GET", "/u/me/", "9 rest="},
        {"GET", "/u/7/posts/8", "8 name=7 p=8"},
        {"GET", "/u/7/other", "1 all=u/7/other"},
        {"GET", "/a/1/d", "12 b=1"},
        {"GET", "/a/1/c", "11 b=1"},
    };
    struct moon_router *router = build(routes, MOON_COUNT(routes));
    check(router, samples, MOON_COUNT(samples));
    moon_router_destroy(router);
}

static void paths_are_decoded_after_the_split(void **state)
{
    (void)state;
    static const struct route routes[] = {
        {"GET", "/admin"},     /* 1 */
        {"GET", "/p/:x"},      /* 2 */
        {"GET", "/p/:x/:y"},   /* 3 */
        {"GET", "/f/*rest"},   /* 4 */
        {"GET", "/caf%C3%A9"}, /* 5 */
        {"GET", "/a b"},       /* 6 */
        {"GET", "/p"},         /* 7 */
    };
    static const struct sample samples[] = {
        {"GET", "/%61dmin", "1"},
        {"GET", "/ADMIN", "none"},
        {"GET", "/p/a%2Fb", "2 x=a/b"},
        {"GET", "/p/a+b%20c", "2 x=a+b c"},
        {"GET", "/p/%", "malformed"},
        {"GET", "/p/%4", "malformed"},
        {"GET", "/p/%zz", "malformed"},
        {"GET", "/p/%00", "malformed"},
        {"GET", "/x/../%00", "malformed"},
        {"GET", "/x/../admin", "1"},
        {"GET", "/x/%2e%2E/admin", "1"},
        {"GET", "/./admin", "1"},
        {"GET", "/../../admin", "1"},
        {"GET", "/p/../../admin", "1"},
        {"GET", "/p/a/..", "none sibling"},
        {"GET", "/p/.", "none sibling"},
        {"GET", "/p/...", "2 x=..."},
        {"GET", "/p/.a", "2 x=.a"},
        {"GET", "/p/..%2f..%2fadmin", "2 x=../../admin"},
        {"GET", "/f/..%2f..%2fadmin", "4 rest=..%2F..%2Fadmin"},
        {"GET", "/f/a/../b%20c/d", "4 rest=b c/d"},
        {"GET", "/f/../f/", "4 rest="},
        {"GET", "/f/a/..", "4 rest="},
        {"GET", "//admin", "none"},
        {"GET", "/p//b", "none"},
        {"GET", "/f/a//b", "none"},
        {"GET", "/f//", "none"},
        {"GET", "//", "none"},
        {"GET", "/p//../a", "2 x=a"},
        {"GET", "/caf%c3%a9", "5"},
        {"GET", "/a%20b", "6"},
        {"GET", "*", "none"},
    };
    struct moon_router *router = build(routes, MOON_COUNT(routes));
    check(router, samples, MOON_COUNT(samples));
    moon_router_destroy(router);
}

static void methods_fall_back(void **state)
{
    (void)state;
    static const struct route routes[] = {
        {"GET", "/a"},       /* 1 */
        {"POST PUT", "/a"},  /* 2 */
        {"any", "/b"},       /* 3 */
        {"GET", "/b"},       /* 4 */
        {"HEAD", "/c"},      /* 5 */
        {"GET", "/c"},       /* 6 */
        {"POST", "/d/e"},    /* 7 */
        {"GET", "/d/:x"},    /* 8 */
        {"DELETE", "/d/*r"}, /* 9 */
    };
    static const struct sample samples[] = {
        {"GET", "/a", "1"},
        {"HEAD", "/a", "1"},
        {"PUT", "/a", "2"},
        {"DELETE", "/a", "none GET HEAD POST PUT owner=1"},
        {"FOO", "/a", "none GET HEAD POST PUT owner=1"},
        {"GET", "/b", "4"},
        {"HEAD", "/b", "4"},
        {"POST", "/b", "3"},
        {"FOO", "/b", "3"},
        {"HEAD", "/c", "5"},
        {"GET", "/c", "6"},
        {"GET", "/d/e", "8 x=e"},
        {"POST", "/d/e", "7"},
        {"DELETE", "/d/e", "9 r=e"},
        {"PATCH", "/d/e", "none GET HEAD POST DELETE owner=7"},
        {"GET", "/d/e/f", "none DELETE owner=9"},
    };
    struct moon_router *router = build(routes, MOON_COUNT(routes));
    check(router, samples, MOON_COUNT(samples));
    moon_router_destroy(router);
}

static void slashes_at_the_end_count(void **state)
{
    (void)state;
    static const struct route routes[] = {
        {"GET", "/a"},    {"GET", "/b/"},    {"POST", "/c/"},
        {"GET", "/d/*r"}, {"GET", "/:x/e/"},
    };
    static const struct sample samples[] = {
        {"GET", "/a/", "none sibling"},
        {"GET", "/b", "none sibling"},
        {"GET", "/b/", "2"},
        {"GET", "/c", "none"},
        {"GET", "/d", "none sibling"},
        {"GET", "/d/", "4 r="},
        {"GET", "/f/e", "none sibling"},
        {"GET", "/f/e/", "5 x=f"},
        {"GET", "/", "none"},
    };
    struct moon_router *router = build(routes, MOON_COUNT(routes));
    check(router, samples, MOON_COUNT(samples));
    moon_router_destroy(router);
}

static void bad_patterns_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *want;
    } samples[] = {
        {"", "starts with /"},
        {"a", "starts with /"},
        {"//", "empty segments"},
        {"/a//b", "empty segments"},
        {"/:", "needs a name"},
        {"/:1a", "needs a name"},
        {"/:a-b", "needs a name"},
        {"/*", "needs a name"},
        {"/:a<float>", "<int>, <uuid> or <alpha>, not <float>"},
        {"/:a<int", "the type must be"},
        {"/*a/b", "must be the last"},
        {"/*a/", "must be the last"},
        {"/:a/:a", "two parameters"},
        {"/%zz", "bad escape"},
        {"/%00", "bad escape"},
        {"/a/../b", "dot segments"},
        {"/%2e", "dot segments"},
        {"/a?b", "without ?"},
        {"/:a/:b/:c/:d/:e/:f/:g/:h/:i/:j/:k/:l/:m/:n/:o/:p/:q", "more than 16"},
    };
    struct moon_router *router = build(NULL, 0);
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        char error[TEXT] = "";
        int other;
        assert_int_equal(
            add(router, "GET", samples[i].pattern, 1, &other, error),
            MOON_EINVAL);
        if (strstr(error, samples[i].want) == NULL)
            fail_msg("%s: %s", samples[i].pattern, error);
    }
    moon_router_destroy(router);
}

static void duplicates_are_refused(void **state)
{
    (void)state;
    static const struct route routes[] = {
        {"GET POST", "/a/:x"}, {"any", "/b"}, {"GET", "/c/*x"},
        {"GET", "/d/:x<int>"}, {"GET", "/e"},
    };
    static const struct {
        const char *methods, *pattern;
        int other; /* 0: accepted */
    } samples[] = {
        {"GET", "/a/:y", 1}, {"PUT POST", "/a/:y", 1}, {"PUT", "/a/:y", 0},
        {"any", "/b", 2},    {"GET", "/b", 0},         {"GET", "/c/*y", 3},
        {"GET", "/d/:y", 0}, {"GET", "/d/:z<int>", 4}, {"GET", "/e/", 0},
        {"GET", "/%65", 5},  {"HEAD", "/e", 0},
    };
    struct moon_router *router = build(routes, MOON_COUNT(routes));
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        char error[TEXT] = "";
        int other;
        enum moon_err err = add(router, samples[i].methods, samples[i].pattern,
                                100 + (int)i, &other, error);
        assert_int_equal(err, samples[i].other == 0 ? MOON_OK : MOON_EEXISTS);
        if (samples[i].other != 0)
            assert_int_equal(other, samples[i].other);
    }
    moon_router_destroy(router);
}

static void many_routes_are_all_found(void **state)
{
    (void)state;
    struct moon_router *router = build(NULL, 0);
    char pattern[64], path[64], want[64], text[TEXT];
    int other;
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(pattern, sizeof(pattern), "/r%d/:x/s%d", i % 500, i);
        assert_int_equal(add(router, "GET", pattern, i, &other, text), MOON_OK);
    }
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(path, sizeof(path), "/r%d/v/s%d", i % 500, i);
        (void)snprintf(want, sizeof(want), "%d x=v", i);
        match(router, "GET", path, text);
        assert_string_equal(text, want);
    }
    match(router, "GET", "/r0/v/s1", text);
    assert_string_equal(text, "none");
    moon_router_destroy(router);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    static const struct route routes[] = {{"GET", "/*all"}};
    struct moon_router *router = build(routes, 1);
    char path[2 * 70 + 1], text[TEXT];
    for (int count = MOON_SEGMENTS_MAX; count <= MOON_SEGMENTS_MAX + 1;
         count++) {
        for (int i = 0; i < count; i++)
            memcpy(path + 2 * i, "/a", 3);
        match(router, "GET", path, text);
        if (count > MOON_SEGMENTS_MAX)
            assert_string_equal(text, "none");
        else
            assert_memory_equal(text, "1 all=a/a", 9);
    }
    moon_router_destroy(router);
}

static void paths_are_normalised(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
    } samples[] = {
        {"/", "/"},
        {"/a/b/", "/a/b/"},
        {"/a//b", "/a//b"},
        {"/%61%2F%2f", "/a%2F%2F"},
        {"/a/./b/../c", "/a/c"},
        {"/..", "/"},
        {"/a/..", "/"},
        {"/a/b/..", "/a/"},
        {"/.a", "/.a"},
        {"/a%20b/", "/a b/"},
        {"*", "*"},
        {"/%2e%2e/%2e/x", "/x"},
        {"/%zz", NULL},
        {"/a/%00", NULL},
    };
    struct moon_arena arena;
    moon_arena_init(&arena, NULL, 0);
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_str out;
        enum moon_err err =
            moon_path_normalise(moon_strz(samples[i].path), &arena, &out);
        if (samples[i].want == NULL) {
            assert_int_equal(err, MOON_EPROTO);
            continue;
        }
        assert_int_equal(err, MOON_OK);
        if (!moon_str_eq(out, moon_strz(samples[i].want)))
            fail_msg("%s gives %.*s", samples[i].path, MOON_STR_ARG(out));
    }
    moon_arena_reset(&arena);
}

/* Every parameter has its own name as value, but for these. */
static bool get_param(void *ctx, struct moon_str name, struct moon_str *value)
{
    (void)ctx;
    if (moon_str_eq(name, MOON_STR("missing")))
        return false;
    *value = name;
    if (moon_str_eq(name, MOON_STR("seven")))
        *value = MOON_STR("7");
    else if (moon_str_eq(name, MOON_STR("odd")))
        *value = MOON_STR("a/b c%\xc3\xa9~");
    else if (moon_str_eq(name, MOON_STR("up")))
        *value = MOON_STR("..");
    else if (moon_str_eq(name, MOON_STR("tree")))
        *value = MOON_STR("a/b c/");
    else if (moon_str_eq(name, MOON_STR("empty")))
        *value = MOON_STR("");
    return true;
}

static void urls_are_built(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *want; /* NULL: refused */
    } samples[] = {
        {"/", "/"},
        {"/a/:b/c/", "/a/b/c/"},
        {"/:seven<int>", "/7"},
        {"/:odd", "/a%2Fb%20c%25%C3%A9~"},
        {"/f/*tree", "/f/a/b%20c/"},
        {"/f/*missing", "/f/"},
        {"/caf%C3%A9", "/caf%C3%A9"},
        {"/:b<int>", NULL},
        {"/:missing", NULL},
        {"/:empty", NULL},
        {"/:up", NULL},
        {"a", NULL},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_buf out = {0};
        char error[TEXT] = "";
        enum moon_err err =
            moon_router_url(moon_strz(samples[i].pattern), get_param, NULL,
                            &out, error, sizeof(error));
        if (samples[i].want == NULL) {
            assert_int_equal(err, MOON_EINVAL);
            assert_true(error[0] != '\0');
        } else {
            assert_int_equal(err, MOON_OK);
            moon_buf_add_char(&out, '\0');
            assert_string_equal(out.ptr, samples[i].want);
        }
        moon_buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_specific_routes_win),
        cmocka_unit_test(paths_are_decoded_after_the_split),
        cmocka_unit_test(methods_fall_back),
        cmocka_unit_test(slashes_at_the_end_count),
        cmocka_unit_test(bad_patterns_are_explained),
        cmocka_unit_test(duplicates_are_refused),
        cmocka_unit_test(many_routes_are_all_found),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(paths_are_normalised),
        cmocka_unit_test(urls_are_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
