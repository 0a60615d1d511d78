#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "http/fit.h"
#include "http/router.h"

enum { TEXT = 300 };

struct parsed {
    struct moon_arena arena;
    struct moon_pattern pattern;
    struct moon_path path;
};

static void parse(struct parsed *p, const char *pattern, const char *path)
{
    char error[TEXT];
    moon_arena_init(&p->arena, NULL, 0);
    if (moon_pattern_parse(moon_strz(pattern), &p->arena, &p->pattern, error,
                           sizeof(error)) != MOON_OK)
        fail_msg("%s: %s", pattern, error);
    assert_int_equal(moon_path_split(moon_strz(path), &p->arena, &p->path),
                     MOON_OK);
}

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path, *want;
        bool near;
    } samples[] = {
        {"/users/:id<int>", "/users/7", "", true},
        {"/users/:id<int>", "/users/x",
         "id: \"x\" is not an <int> (1 to 15 digits)", true},
        {"/u/:id<uuid>", "/u/7", "id: \"7\" is not a <uuid>", true},
        {"/u/:id<alpha>", "/u/7", "id: \"7\" is not <alpha> (letters only)",
         true},
        {"/users/:id<int>", "/usres/7", "\"usres\" is not \"users\"", true},
        {"/users/:id", "/orders/7", "\"orders\" is not \"users\"", false},
        {"/users/:id", "/users", "the path ends before :id", true},
        {"/users/list", "/users", "the path ends before /list", true},
        {"/users", "/users/7", "the path goes on with \"7\"", true},
        {"/users", "/users/7/edit", "the path goes on with \"7\"", false},
        {"/users", "/users/", "has no slash at the end", true},
        {"/users/", "/users", "has a slash at the end", true},
        {"/docs/*rest", "/docs/a/b", "", true},
        {"/docs/*rest", "/docs/", "", true},
        {"/docs/*rest", "/docs", "has a slash at the end", true},
        {"/*all", "/", "", true},
        {"/", "/", "", true},
        {"/", "/x", "the path goes on with \"x\"", false},
        {"/x", "/", "the path ends before /x", false},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct parsed p;
        struct moon_buf text = {0};
        parse(&p, samples[i].pattern, samples[i].path);
        struct moon_fit fit = moon_fit_of(&p.pattern, &p.path);
        moon_fit_explain(&fit, &p.pattern, &p.path, &text);
        if (!moon_str_eq(moon_buf_str(&text), moon_strz(samples[i].want)) ||
            moon_fit_is_near(&fit, &p.pattern, &p.path) != samples[i].near ||
            (fit.distance == 0) != (fit.kind == MOON_FIT_YES))
            fail_msg("%s on %s: %.*s, distance %zu", samples[i].pattern,
                     samples[i].path, MOON_STR_ARG(moon_buf_str(&text)),
                     fit.distance);
        moon_buf_deinit(&text);
        moon_arena_reset(&p.arena);
    }
}

/* The texts are long; distances of any size must not overflow or be 0. */
static void far_texts_are_far(void **state)
{
    (void)state;
    struct parsed p;
    char path[400] = "/";
    memset(path + 1, 'a', 300);
    parse(&p, "/b", path);
    struct moon_fit fit = moon_fit_of(&p.pattern, &p.path);
    assert_int_equal(fit.kind, MOON_FIT_TEXT);
    assert_true(fit.distance >= 300);
    moon_arena_reset(&p.arena);
}

static const char *const patterns[] = {
    "/a/b",       "/a/7",    "/a/:i<int>",   "/a/:u<uuid>", "/a/:l<alpha>",
    "/a/:p",      "/a/*r",   "/:x/b",        "/:x/:y",      "/*all",
    "/:n<int>/b", "/a/b/",   "/a/:p/",       "/a/:i<int>/", "/a",
    "/a/b/c",     "/a/b/*q", "/:x/:y<int>/", "/",
};
static const char *const paths[] = {
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/a/7",
    "/a/8",
    "/a/8/",
    "/a/x1",
    "/a/x/",
    "/q/b",
    "/q/r",
    "/5/b",
    "/5/6/",
    "/a/b/c",
    "/a/b/d",
    "/x/y/z",
    "/a/bb",
    "/a/123e4567-e89b-12d3-a456-426614174000",
};

/* What is said here is what the router does: for every path, the first of the
 * patterns that fit, in the order told here, is the one that it finds. */
static void it_agrees_with_the_router(void **state)
{
    (void)state;
    struct moon_router *router = moon_router_create();
    assert_non_null(router);
    for (size_t i = 0; i < MOON_COUNT(patterns); i++) {
        char error[TEXT];
        int other;
        assert_int_equal(moon_router_add(router,
                                         MOON_METHOD_BIT(MOON_METHOD_GET),
                                         false, moon_strz(patterns[i]), (int)i,
                                         &other, error, sizeof(error)),
                         MOON_OK);
    }
    for (size_t j = 0; j < MOON_COUNT(paths); j++) {
        struct moon_arena arena;
        struct moon_match match;
        int best = MOON_NO_ROUTE;
        for (size_t i = 0; i < MOON_COUNT(patterns); i++) {
            struct parsed one, two;
            uint32_t at;
            parse(&one, patterns[i], paths[j]);
            if (moon_fit_of(&one.pattern, &one.path).kind == MOON_FIT_YES) {
                if (best == MOON_NO_ROUTE)
                    best = (int)i;
                parse(&two, patterns[best], paths[j]);
                if (moon_pattern_order(&one.pattern, &two.pattern, &at) < 0)
                    best = (int)i;
                moon_arena_reset(&two.arena);
            }
            moon_arena_reset(&one.arena);
        }
        moon_arena_init(&arena, NULL, 0);
        assert_int_equal(moon_router_match(router, MOON_METHOD_GET,
                                           moon_strz(paths[j]), &arena, &match),
                         MOON_OK);
        if (match.route != best)
            fail_msg("%s: the router finds %d, told is %d", paths[j],
                     match.route, best);
        moon_arena_reset(&arena);
    }
    moon_router_destroy(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(far_texts_are_far),
        cmocka_unit_test(it_agrees_with_the_router),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
