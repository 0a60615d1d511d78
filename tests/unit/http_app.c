/* Scopes, hooks and patterns of an application's tables. */
#include "http/app.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int setup(void **state)
{
    static struct moon_app app;
    assert_int_equal(moon_app_init(&app), MOON_OK);
    *state = &app;
    return 0;
}

static int teardown(void **state)
{
    moon_app_deinit(*state);
    return 0;
}

static int add_scope(struct moon_app *app, int parent, const char *prefixz)
{
    int id = -1;
    assert_non_null(moon_app_add_scope(app, parent, moon_strz(prefixz), &id));
    return id;
}

static void routes_start_with_what_unset_means(void **state)
{
    struct moon_app *app = *state;
    for (int i = 0; i < 100; i++) {
        int id;
        struct moon_route *route = moon_app_add_route(app, &id);
        assert_non_null(route);
        assert_int_equal(id, i);
        assert_int_equal(route->chain, MOON_NO_CHAIN);
        assert_int_equal(route->dir_fd, -1);
        assert_int_equal(route->cache_control.len, 0);
        assert_true(route->body_limit_bytes == UINT64_MAX);
    }
    assert_int_equal(app->route_count, 100);
}

static void the_deepest_scope_holds_a_path(void **state)
{
    struct moon_app *app = *state;
    int api = add_scope(app, 0, "/api");
    int v2 = add_scope(app, api, "/api/v2");
    int again = add_scope(app, 0, "/api");
    static const struct {
        const char *pathz;
        int depth; /* 0 app, 1 /api, 2 /api/v2 */
    } cases[] = {
        {"/", 0},           {"/ap", 0},      {"/apix", 0},   {"/api", 1},
        {"/api/", 1},       {"/api/v", 1},   {"/api/v2", 2}, {"/api/v2/", 2},
        {"/api/v2/x/y", 2}, {"/api/v22", 1}, {"", 0},        {"/x/api", 0},
    };
    const int ids[] = {0, api, v2};
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        int scope = moon_app_scope_of(app, moon_strz(cases[i].pathz));
        assert_int_equal(scope, ids[cases[i].depth]);
    }
    assert_int_not_equal(again, api); /* the first of a prefix decides */
}

static void hooks_are_inherited(void **state)
{
    struct moon_app *app = *state;
    int api = add_scope(app, 0, "/api");
    int v2 = add_scope(app, api, "/api/v2");
    struct moon_status_hook outer[] = {{.status = 404, .chain = 1},
                                       {.status = 405, .chain = 2}};
    struct moon_status_hook inner[] = {{.status = 404, .chain = 3}};
    app->scopes[0].hooks = outer;
    app->scopes[0].hook_count = 2;
    app->scopes[api].hooks = inner;
    app->scopes[api].hook_count = 1;
    assert_int_equal(moon_app_hook(app, v2, 404)->chain, 3);
    assert_int_equal(moon_app_hook(app, v2, 405)->chain, 2);
    assert_int_equal(moon_app_hook(app, 0, 404)->chain, 1);
    assert_null(moon_app_hook(app, v2, 500));
}

static void what_is_unset_holds_from_the_parent(void **state)
{
    struct moon_app *app = *state;
    int api = add_scope(app, 0, "/api");
    int v2 = add_scope(app, api, "/api/v2");
    int other = add_scope(app, 0, "/other");
    app->scopes[0].request_id.set = true;
    app->scopes[api].cors.set = true;
    app->scopes[api].request_id.set = true;
    app->scopes[v2].security.set = true;
    app->scopes[v2].access_log.set = true;
    moon_app_seal(app);
    const struct moon_scope *s = app->scopes;
    assert_ptr_equal(s[v2].stages.request_id, &s[api].request_id);
    assert_ptr_equal(s[v2].stages.cors, &s[api].cors);
    assert_ptr_equal(s[v2].stages.security, &s[v2].security);
    assert_ptr_equal(s[v2].stages.access_log, &s[v2].access_log);
    assert_ptr_equal(s[api].stages.cors, &s[api].cors);
    assert_null(s[api].stages.security);
    assert_null(s[api].stages.access_log);
    assert_ptr_equal(s[other].stages.request_id, &s[0].request_id);
    assert_null(s[other].stages.cors);
    assert_null(s[0].stages.cors);
}

static void patterns_skip_paths_and_prefixes(void **state)
{
    (void)state;
    struct moon_str items[] = {MOON_STR("/health"), MOON_STR("/static/*"),
                               MOON_STR("")};
    struct moon_strs list = {items, MOON_COUNT(items)};
    assert_true(moon_app_skips(&list, MOON_STR("/health")));
    assert_false(moon_app_skips(&list, MOON_STR("/health/")));
    assert_false(moon_app_skips(&list, MOON_STR("/healthy")));
    assert_true(moon_app_skips(&list, MOON_STR("/static/")));
    assert_true(moon_app_skips(&list, MOON_STR("/static/a/b")));
    assert_false(moon_app_skips(&list, MOON_STR("/static")));
    assert_false(moon_app_skips(&(struct moon_strs){NULL, 0}, MOON_STR("/")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(routes_start_with_what_unset_means,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_deepest_scope_holds_a_path, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(hooks_are_inherited, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_unset_holds_from_the_parent,
                                        setup, teardown),
        cmocka_unit_test(patterns_skip_paths_and_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
