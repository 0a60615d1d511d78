#include "cli/command.h"

#include "base/nearest.h"

#include <stdarg.h>
#include <stdio.h>

void moon_args_init(struct moon_args *args, const struct moon_command *command,
                    int argc, char **argv)
{
    *args = (struct moon_args){
        .command = command,
        .argc = argc,
        .argv = argv,
    };
}

static void say(const struct moon_command *command, const char *fmt,
                va_list list) MOON_PRINTF(2, 0);

static void say(const struct moon_command *command, const char *fmt,
                va_list list)
{
    (void)fprintf(stderr, "moonshine %s: ", command->namez);
    (void)vfprintf(stderr, fmt, list);
    (void)fputc('\n', stderr);
}

int moon_usage_error(const struct moon_command *command, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    say(command, fmt, list);
    va_end(list);
    (void)fprintf(stderr, "Try: moonshine %s --help\n", command->namez);
    return MOON_EXIT_USAGE;
}

int moon_command_failed(const struct moon_command *command, const char *fmt,
                        ...)
{
    va_list list;
    va_start(list, fmt);
    say(command, fmt, list);
    va_end(list);
    return MOON_EXIT_FAILED;
}

static enum moon_arg leave(struct moon_args *args, int exit_code)
{
    args->exit_code = exit_code;
    return MOON_ARG_EXIT;
}

/* What other programs call an option that the command has; else the name. */
static struct moon_str other_name(const struct moon_command *command,
                                  struct moon_str name)
{
    static const char *const synonyms[][2] = {
        {"--port", "--listen"}, {"-p", "--listen"},
        {"--host", "--listen"}, {"--bind", "--listen"},
        {"-b", "--listen"},     {"--address", "--listen"},
        {"--watch", "--dev"},   {"--reload", "--dev"},
        {"--debug", "--dev"},   {"--threads", "--workers"},
        {"-w", "--workers"},    {"-j", "--workers"},
        {"-c", "--config"},     {"--conf", "--config"},
        {"-n", "--name"},       {"--option", "--set"},
        {"-s", "--set"},
    };
    for (size_t i = 0; i < MOON_COUNT(synonyms); i++) {
        if (!moon_str_eq(name, moon_strz(synonyms[i][0])))
            continue;
        for (size_t o = 0; o < command->option_count; o++)
            if (strcmp(command->options[o].namez, synonyms[i][1]) == 0)
                return moon_strz(synonyms[i][1]);
    }
    return name;
}

static enum moon_arg unknown(struct moon_args *args, struct moon_str given)
{
    struct moon_nearest nearest;
    struct moon_str name = other_name(args->command, given);
    moon_nearest_init(&nearest, name);
    for (size_t i = 0; i < args->command->option_count; i++)
        moon_nearest_offer(&nearest,
                           moon_strz(args->command->options[i].namez));
    moon_nearest_offer(&nearest, MOON_STR("--help"));
    if (moon_nearest_found(&nearest))
        return leave(
            args, moon_usage_error(
                      args->command, "unknown option %.*s; did you mean %.*s?",
                      MOON_STR_ARG(given), MOON_STR_ARG(nearest.best)));
    return leave(args, moon_usage_error(args->command, "unknown option %.*s",
                                        MOON_STR_ARG(given)));
}

static enum moon_arg take_word(struct moon_args *args, const char *textz)
{
    if (args->words++ >= args->command->max_words)
        return leave(args,
                     moon_usage_error(args->command,
                                      "unexpected argument \"%s\"", textz));
    args->textz = textz;
    return MOON_ARG_WORD;
}

static enum moon_arg take_option(struct moon_args *args, const char *textz)
{
    const char *equalsz = strchr(textz, '=');
    struct moon_str name = equalsz == NULL
                               ? moon_strz(textz)
                               : moon_str(textz, (size_t)(equalsz - textz));
    const struct moon_option *option = NULL;
    for (size_t i = 0; i < args->command->option_count; i++) {
        if (moon_str_eq(name, moon_strz(args->command->options[i].namez)))
            option = &args->command->options[i];
    }
    if (option == NULL)
        return unknown(args, name);
    if (option->valuez == NULL && equalsz != NULL)
        return leave(args, moon_usage_error(args->command, "%s takes no value",
                                            option->namez));
    args->id = option->id;
    args->textz = equalsz == NULL ? NULL : equalsz + 1;
    if (option->valuez != NULL && equalsz == NULL) {
        /* "--workers --dev": the value was forgotten. One that does begin so
         * is given as --name=--value. */
        if (args->at >= args->argc ||
            strncmp(args->argv[args->at], "--", 2) == 0)
            return leave(args, moon_usage_error(args->command,
                                                "%s needs a value: %s %s",
                                                option->namez, option->namez,
                                                option->valuez));
        args->textz = args->argv[args->at++];
    }
    return MOON_ARG_OPTION;
}

enum moon_arg moon_args_next(struct moon_args *args)
{
    if (args->at >= args->argc)
        return MOON_ARG_END;
    const char *textz = args->argv[args->at++];
    if (args->only_words || textz[0] != '-' || textz[1] == '\0')
        return take_word(args, textz);
    if (strcmp(textz, "--") == 0) {
        args->only_words = true;
        return moon_args_next(args);
    }
    if (strcmp(textz, "--help") == 0 || strcmp(textz, "-h") == 0) {
        moon_help_command(args->command);
        return leave(args, MOON_EXIT_OK);
    }
    return take_option(args, textz);
}
