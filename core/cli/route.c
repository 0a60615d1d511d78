/* route: which route a request would take, and why. */
#include "cli/app_args.h"

#include <ctype.h>
#include <stdio.h>

enum { METHOD_MAX = 32 };

/* In capitals, as on the wire; false if it cannot be a method. */
static bool read_method(const char *textz, char to[METHOD_MAX])
{
    size_t len = strlen(textz);
    if (len == 0 || len >= METHOD_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (isalpha((unsigned char)textz[i]) == 0 && textz[i] != '-')
            return false;
        to[i] = (char)toupper((unsigned char)textz[i]);
    }
    to[len] = '\0';
    return true;
}

/* The words in their order; NULL: not given. */
struct request {
    const char *methodz, *pathz;
};

static int take(void *ctx, struct moon_app_args *app,
                const struct moon_args *args, bool is_word)
{
    struct request *request = ctx;
    if (!is_word)
        return -1;
    if (request->methodz == NULL)
        request->methodz = args->textz;
    else if (request->pathz == NULL)
        request->pathz = args->textz;
    else
        app->options.appz = args->textz;
    return -1;
}

static int explain(const struct moon_command *command,
                   const struct moon_app_args *app,
                   const struct request *request)
{
    char method[METHOD_MAX];
    const char *methodz = request->methodz, *pathz = request->pathz;
    if (methodz == NULL)
        return moon_usage_error(command, "which request? As in: moonshine "
                                         "route GET /users/7");
    if (!read_method(methodz, method))
        return moon_usage_error(command,
                                "\"%s\" is no method; the method comes first: "
                                "moonshine route GET %s",
                                methodz, methodz[0] == '/' ? methodz : "/");
    if (pathz == NULL)
        return moon_usage_error(command,
                                "which path? As in: moonshine route "
                                "%s /users/7",
                                method);
    if (pathz[0] != '/' && strcmp(pathz, "*") != 0)
        return moon_usage_error(
            command, "the path must start with /, \"%s\" does not", pathz);
    return moon_node_route(&app->options, method, pathz);
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_app_args app;
    struct request request = {NULL, NULL};
    int exit_code =
        moon_app_args_parse_own(&app, command, argc, argv, take, &request);
    if (exit_code < 0)
        exit_code = explain(command, &app, &request);
    moon_app_args_deinit(&app);
    return exit_code;
}

static const struct moon_option options[] = {
    {MOON_APP_CONFIG, "--config", "FILE",
     "configuration (default: config.lua of APP, if there is one)"},
    {MOON_APP_SET, "--set", "KEY=VALUE",
     "one configuration key, before all other sources; may be given several "
     "times"},
};

const struct moon_command moon_command_route = {
    .namez = "route",
    .usagez = "METHOD PATH [APP] [OPTION]...",
    .summaryz = "Explain which route a request would take, and why",
    .detailz =
        "Loads the application as check does; no handler runs. Prints the "
        "route, its parameters, its middleware in order, the limits and "
        "stages in effect, and the other routes that were considered; or why "
        "there is no route and what the server answers instead. Exits with 0 "
        "if a route answers, else with 1.\n\n"
        "APP is a directory with app.lua, or a .lua file (default: "
        "$MOONSHINE_APP, else the current directory).",
    .options = options,
    .option_count = MOON_COUNT(options),
    .examplesz = "  moonshine route GET /users/7\n"
                 "  moonshine route DELETE /users/7 shop\n",
    .max_words = 3,
    .run = run,
};
