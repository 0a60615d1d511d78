#include "cli/command.h"

#include "base/nearest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

const struct moon_command *const moon_commands[] = {
    &moon_command_run,        &moon_command_new,      &moon_command_check,
    &moon_command_test,       &moon_command_routes,   &moon_command_route,
    &moon_command_reload,     &moon_command_rollback, &moon_command_status,
    &moon_command_stop,       &moon_command_nginx,    &moon_command_cluster,
    &moon_command_completion, &moon_command_version,  NULL,
};

/* What other programs call the same. */
static const char *const synonyms[][2] = {
    {"start", "run"},     {"serve", "run"},       {"server", "run"},
    {"dev", "run --dev"}, {"watch", "run --dev"}, {"restart", "reload"},
    {"kill", "stop"},     {"quit", "stop"},       {"shutdown", "stop"},
    {"lint", "check"},    {"validate", "check"},  {"init", "new"},
    {"create", "new"},    {"list", "routes"},     {"explain", "route"},
    {"match", "route"},   {"ps", "status"},       {"info", "status"},
    {"-v", "version"},    {"-V", "version"},
};

static const struct moon_command *find(const char *namez)
{
    for (size_t i = 0; moon_commands[i] != NULL; i++) {
        if (strcmp(moon_commands[i]->namez, namez) == 0)
            return moon_commands[i];
    }
    return NULL;
}

static int unknown(const char *namez)
{
    struct moon_nearest nearest;
    struct stat st;
    const char *meantz = NULL;
    for (size_t i = 0; i < MOON_COUNT(synonyms); i++)
        if (strcmp(synonyms[i][0], namez) == 0)
            meantz = synonyms[i][1];
    moon_nearest_init(&nearest, moon_strz(namez));
    for (size_t i = 0; moon_commands[i] != NULL; i++)
        moon_nearest_offer(&nearest, moon_strz(moon_commands[i]->namez));
    (void)fprintf(stderr, "moonshine: unknown %s \"%s\"",
                  namez[0] == '-' ? "option" : "command", namez);
    if (meantz != NULL)
        (void)fprintf(stderr, "; here it is: moonshine %s", meantz);
    else if (moon_nearest_found(&nearest))
        (void)fprintf(stderr, "; did you mean \"%.*s\"?",
                      MOON_STR_ARG(nearest.best));
    else if (stat(namez, &st) == 0)
        (void)fprintf(stderr, "; to serve it: moonshine run %s", namez);
    (void)fprintf(stderr, "\nTry: moonshine --help\n");
    return MOON_EXIT_USAGE;
}

/* A program started without standard streams would give their numbers to the
 * first sockets it opens, and then log into them. */
static void open_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", O_RDWR);
    }
}

/* Output that did not arrive (a full disk) is a failure of the command. */
static int flushed(int exit_code)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return exit_code;
    return exit_code == MOON_EXIT_OK ? MOON_EXIT_FAILED : exit_code;
}

static int help(const char *aboutz)
{
    const struct moon_command *about = aboutz == NULL ? NULL : find(aboutz);
    if (aboutz == NULL)
        moon_help_program(moon_commands);
    else if (strcmp(aboutz, "config") == 0)
        moon_help_config();
    else if (about != NULL)
        moon_help_command(about);
    else
        return unknown(aboutz);
    return flushed(MOON_EXIT_OK);
}

int moon_cli_main(int argc, char **argv)
{
    open_standard_streams();
    const char *namez = argc > 1 ? argv[1] : NULL;
    if (namez == NULL) {
        (void)fprintf(stderr, "moonshine: which command? Start an application "
                              "with: moonshine run APP\n"
                              "Try: moonshine --help\n");
        return MOON_EXIT_USAGE;
    }
    if (strcmp(namez, "--help") == 0 || strcmp(namez, "-h") == 0 ||
        strcmp(namez, "help") == 0) {
        return help(argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(namez, "--version") == 0)
        namez = "version";
    const struct moon_command *command = find(namez);
    if (command == NULL)
        return unknown(namez);
    return flushed(command->run(command, argc - 2, argv + 2));
}
