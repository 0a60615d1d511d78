/* test: the spec files of an application. */
#include "base/units.h"
#include "cli/app_args.h"

#include <stdlib.h>

enum {
    OPTION_FILTER = MOON_APP_OWN,
    OPTION_JUNIT,
    OPTION_TIMEOUT,
    OPTION_JOBS,
    OPTION_COVERAGE,
};

enum { GO_ON = -1, LIMIT_MS = 10000, WORDS = 4096 };

struct test_args {
    struct moon_test_options options;
    char *words[WORDS];
};

static bool ends_in(const char *textz, const char *endz)
{
    size_t len = strlen(textz), end = strlen(endz);
    return len >= end && strcmp(textz + len - end, endz) == 0;
}

static int take_timeout(struct test_args *test, const struct moon_args *args)
{
    char error[256];
    uint64_t ms;
    if (moon_duration_parse(moon_strz(args->textz), &ms, error,
                            sizeof(error)) != MOON_OK)
        return moon_usage_error(args->command, "--timeout: %s", error);
    if (ms == 0)
        return moon_usage_error(args->command, "--timeout must be more than 0");
    test->options.limit_ms = ms;
    return GO_ON;
}

static int take_jobs(struct test_args *test, const struct moon_args *args)
{
    uint64_t jobs;
    if (!moon_str_to_u64(moon_strz(args->textz), &jobs) || jobs == 0 ||
        jobs > 256)
        return moon_usage_error(args->command,
                                "--jobs: expected a number from 1 to 256, not "
                                "\"%s\"",
                                args->textz);
    test->options.jobs = (uint32_t)jobs;
    return GO_ON;
}

static int take(void *ctx, struct moon_app_args *app,
                const struct moon_args *args, bool is_word)
{
    struct test_args *test = ctx;
    if (is_word && args->words == 1 && !ends_in(args->textz, "_spec.lua")) {
        app->options.appz = args->textz;
        return GO_ON;
    } else if (is_word) {
        test->words[test->options.file_count++] = (char *)args->textz;
        return GO_ON;
    }
    switch (args->id) {
    case OPTION_FILTER:
        test->options.filterz = args->textz;
        return GO_ON;
    case OPTION_JUNIT:
        test->options.junitz = args->textz;
        return GO_ON;
    case OPTION_TIMEOUT:
        return take_timeout(test, args);
    case OPTION_JOBS:
        return take_jobs(test, args);
    default:
        test->options.coverage = true;
        return GO_ON;
    }
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    static struct test_args test;
    struct moon_app_args app;
    test.options = (struct moon_test_options){
        .filesz = test.words,
        .limit_ms = LIMIT_MS,
    };
    int exit_code =
        moon_app_args_parse_own(&app, command, argc, argv, take, &test);
    if (exit_code < 0)
        exit_code = moon_node_test(&app.options, &test.options);
    moon_app_args_deinit(&app);
    return exit_code;
}

static const struct moon_option options[] = {
    {OPTION_FILTER, "--filter", "TEXT",
     "only tests that have this text in their full name (\"describe inner "
     "it\")"},
    {OPTION_JUNIT, "--junit", "FILE",
     "also write the results as JUnit XML, for continuous integration"},
    {OPTION_TIMEOUT, "--timeout", "DURATION",
     "for each test and each hook (default: 10s)"},
    {OPTION_JOBS, "--jobs", "N",
     "spec files that run side by side (default: as many as the processors "
     "this process may use)"},
    {OPTION_COVERAGE, "--coverage", NULL,
     "also print which lines of the application's own files ran; slower"},
    {MOON_APP_CONFIG, "--config", "FILE",
     "configuration (default: config.lua of APP, if there is one)"},
    {MOON_APP_SET, "--set", "KEY=VALUE",
     "one configuration key, before all other sources; may be given several "
     "times"},
};

const struct moon_command moon_command_test = {
    .namez = "test",
    .usagez = "[APP] [FILE]... [OPTION]...",
    .summaryz = "Run the tests of an application",
    .detailz =
        "Runs APP/spec/**/*_spec.lua, or the spec files and directories that "
        "are named. APP is a directory with app.lua, or a .lua file (default: "
        "$MOONSHINE_APP, else the current directory). Each file has a process "
        "of its own, in which the application is loaded and started; its tests "
        "run one after another.\n\n"
        "A mark for each test: + passed, - an assertion failed, * another "
        "error, . pending; on a terminal coloured dots. Exits with 0 if all "
        "tests passed, with 1 if not or if there is none.\n\n"
        "A spec file:\n\n"
        "    local t = require \"moonshine.test\"\n"
        "    local app = require \"app\"\n\n"
        "    describe(\"the home page\", function()\n"
        "        it(\"greets\", function()\n"
        "            local response = t.request(app, \"GET\", \"/\")\n"
        "            assert(response.status == 200)\n"
        "        end)\n"
        "    end)",
    .options = options,
    .option_count = MOON_COUNT(options),
    .max_words = WORDS,
    .run = run,
};
