/* check and routes: both load the application once and say what they found. */
#include "cli/app_args.h"

static int load(const struct moon_command *command, int argc, char **argv,
                int (*act)(const struct moon_node_options *options))
{
    struct moon_app_args app;
    int exit_code = moon_app_args_parse(&app, command, argc, argv);
    if (exit_code < 0)
        exit_code = act(&app.options);
    moon_app_args_deinit(&app);
    return exit_code;
}

static int check(const struct moon_command *command, int argc, char **argv)
{
    return load(command, argc, argv, moon_node_check);
}

static int routes(const struct moon_command *command, int argc, char **argv)
{
    return load(command, argc, argv, moon_node_routes);
}

static const struct moon_option options[] = {
    {MOON_APP_CONFIG, "--config", "FILE",
     "configuration (default: config.lua of APP, if there is one)"},
    {MOON_APP_SET, "--set", "KEY=VALUE",
     "one configuration key, before all other sources; may be given several "
     "times"},
};

const struct moon_command moon_command_check = {
    .namez = "check",
    .usagez = "[APP] [OPTION]...",
    .summaryz = "Load an application as a reload would, and say if it is good",
    .detailz = "Checks configuration, routes and middleware, and runs "
               "on_start and the app:check functions. Prints \"ok: N routes\" "
               "and exits with 0, or the error and exits with 1. APP is a "
               "directory with app.lua, or a .lua file (default: "
               "$MOONSHINE_APP, else the current directory).",
    .options = options,
    .option_count = MOON_COUNT(options),
    .max_words = 1,
    .run = check,
};

const struct moon_command moon_command_routes = {
    .namez = "routes",
    .usagez = "[APP] [OPTION]...",
    .summaryz = "List the routes of an application",
    .detailz = "Prints method, pattern, name, middleware and where each route "
               "is defined; moonshine route says more about one. APP is a "
               "directory with app.lua, or a "
               ".lua file (default: $MOONSHINE_APP, else the current "
               "directory).",
    .options = options,
    .option_count = MOON_COUNT(options),
    .max_words = 1,
    .run = routes,
};
