#include "cli/command.h"

#include <stdio.h>

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_args args;
    moon_args_init(&args, command, argc, argv);
    if (moon_args_next(&args) == MOON_ARG_EXIT)
        return args.exit_code;
    (void)printf("moonshine %s\n", MOON_VERSION);
    return MOON_EXIT_OK;
}

const struct moon_command moon_command_version = {
    .namez = "version",
    .usagez = "",
    .summaryz = "Print the version",
    .run = run,
};
