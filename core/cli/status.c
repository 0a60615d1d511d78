#include "cli/admin.h"
#include "fleet/overview.h"

#include <stdio.h>

static int get(const struct moon_command *command,
               const struct moon_admin_args *args,
               const struct moon_target *target)
{
    return moon_admin_request(command, args, target, "GET",
                              args->requests ? "/-/requests" : "/-/status");
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_admin_args args;
    const struct moon_targets *targets;
    int exit_code = moon_admin_args_parse(&args, command, argc, argv);
    if (exit_code >= 0)
        return exit_code;
    if (args.nodesz == NULL || args.requests)
        return moon_admin_for_each(command, &args, get);
    exit_code = moon_admin_resolve(command, &args, &targets);
    if (exit_code >= 0)
        return exit_code;
    bool all = args.json ? moon_overview_print_json(targets, stdout)
                         : moon_overview_print(targets, stdout);
    return all ? MOON_EXIT_OK : MOON_EXIT_FAILED;
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
    .detailz = "With --nodes one line a node, and what sets them apart: other "
               "code, another version, a node that does not answer.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .run = run,
};
