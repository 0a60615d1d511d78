/* completion: prints the script that teaches a shell to complete commands. */
#include "cli/completion.h"

#include "cli/admin.h"

static const struct {
    const char *wordz;
    enum moon_completes completes;
} placeholders[] = {
    {"FILE", MOON_COMPLETES_FILE},     {"DIR", MOON_COMPLETES_DIR},
    {"APP", MOON_COMPLETES_APP},       {"KEY=VALUE", MOON_COMPLETES_KEY},
    {"NODE", MOON_COMPLETES_NODE},     {"NAME,...", MOON_COMPLETES_NODE},
    {"METHOD", MOON_COMPLETES_METHOD},
};

static enum moon_completes completes(struct moon_str word)
{
    for (size_t i = 0; i < MOON_COUNT(placeholders); i++)
        if (moon_str_eq(word, moon_strz(placeholders[i].wordz)))
            return placeholders[i].completes;
    return memchr(word.ptr, '|', word.len) != NULL ? MOON_COMPLETES_LIST
                                                   : MOON_COMPLETES_NOTHING;
}

enum moon_completes moon_completes_value(const char *valuez)
{
    return completes(moon_strz(valuez));
}

/* "[FILE]..." is FILE, and repeats. */
static struct moon_str bare(struct moon_str word, bool *repeats)
{
    static const char dots[] = "...";
    size_t end = sizeof(dots) - 1;
    *repeats = word.len > end &&
               memcmp(word.ptr + word.len - end, dots, end) == 0 &&
               word.ptr[word.len - end - 1] == ']';
    if (*repeats)
        word.len -= end;
    if (word.len > 2 && word.ptr[0] == '[')
        word = moon_str(word.ptr + 1, word.len - 2);
    return word;
}

bool moon_completes_word(const struct moon_command *command, size_t nth,
                         struct moon_completes_word *out)
{
    struct moon_str rest = moon_strz(command->usagez);
    size_t seen = 0;
    while (rest.len > 0) {
        struct moon_str word = moon_str_cut(rest, ' ', &rest);
        if (moon_str_starts(word, MOON_STR("[OPTION]")))
            continue;
        if (moon_str_starts(word, MOON_STR("--"))) {
            (void)moon_str_cut(rest, ' ', &rest); /* its value */
            continue;
        }
        if (seen++ < nth)
            continue;
        out->text = bare(word, &out->repeats);
        out->completes = completes(out->text);
        return seen <= command->max_words;
    }
    return false;
}

/* "moonshine completion nodes [--run-dir DIR]" is for the scripts. */
static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_args args;
    struct moon_admin_args where = {0};
    const char *whatz = NULL;
    moon_args_init(&args, command, argc, argv);
    for (;;) {
        enum moon_arg what = moon_args_next(&args);
        if (what == MOON_ARG_END)
            break;
        if (what == MOON_ARG_EXIT)
            return args.exit_code;
        if (what == MOON_ARG_WORD)
            whatz = args.textz;
        else
            where.run_dirz = args.textz;
    }
    if (whatz == NULL)
        return moon_usage_error(command, "for which shell? bash or zsh");
    if (strcmp(whatz, "bash") == 0)
        moon_completion_bash(stdout);
    else if (strcmp(whatz, "zsh") == 0)
        moon_completion_zsh(stdout);
    else if (strcmp(whatz, "nodes") == 0)
        return moon_admin_print_names(command, &where);
    else
        return moon_usage_error(command,
                                "there is none for \"%s\"; bash or zsh", whatz);
    return MOON_EXIT_OK;
}

static const struct moon_option options[] = {
    {MOON_ADMIN_RUN_DIR, "--run-dir", "DIR",
     "with nodes: where to look (default: as for run)"},
};

const struct moon_command moon_command_completion = {
    .namez = "completion",
    .groupz = "More",
    .usagez = "bash|zsh",
    .summaryz = "Print the script that completes commands in your shell",
    .detailz =
        "It completes commands, options, configuration keys, files, and the "
        "names of the nodes that run here. An installed Moonshine brings it "
        "along. Else, for this shell:\n\n"
        "    source <(moonshine completion bash)\n"
        "    source <(moonshine completion zsh)\n\n"
        "The scripts ask \"moonshine completion nodes\" for the names of the "
        "nodes that run here, one a line.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .max_words = 1,
    .run = run,
};
