#include "cli/admin.h"

static int get(const struct moon_command *command,
               const struct moon_admin_args *args,
               const struct moon_admin_target *target)
{
    return moon_admin_request(command, args, target, "GET",
                              args->requests ? "/-/requests" : "/-/status");
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_admin_args args;
    int exit_code = moon_admin_args_parse(&args, command, argc, argv);
    return exit_code >= 0 ? exit_code
                          : moon_admin_for_each(command, &args, get);
}

static const struct moon_option options[] = {
    MOON_ADMIN_OPTIONS,
    {MOON_ADMIN_REQUESTS, "--requests", NULL,
     "the requests in flight instead: their age, route and what they wait "
     "on"},
};

const struct moon_command moon_command_status = {
    .namez = "status",
    .usagez = "[OPTION]...",
    .summaryz = "Show the state of a running node and its workers",
    .options = options,
    .option_count = MOON_COUNT(options),
    .run = run,
};
