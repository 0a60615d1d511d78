/* Commands that have a name and a place in the help, and say plainly that this
 * build does not have them. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

static int run(const struct moon_command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            moon_help_command(command);
            return MOON_EXIT_OK;
        }
    }
    (void)fprintf(stderr,
                  "moonshine %s: this build does not have this command yet; "
                  "it comes with a later version\n",
                  command->namez);
    return MOON_EXIT_USAGE;
}

#define LATER(name, usage, summary)                          \
    const struct moon_command moon_command_##name = {        \
        .namez = #name,                                      \
        .usagez = usage,                                     \
        .summaryz = summary " (comes with a later version)", \
        .run = run,                                          \
    }

LATER(new, "DIR", "Start a new application");
