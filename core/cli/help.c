#include "cli/command.h"

#include "base/config.h"

#include <stdio.h>

#define WIDTH 79
#define COLUMN 24

/* Words of `textz`, broken at WIDTH, from the second line on indented. A line
 * break in the text stays one. */
static void wrap(const char *textz, size_t indent, size_t at)
{
    struct moon_str rest = moon_strz(textz);
    while (rest.len > 0) {
        struct moon_str line = moon_str_cut(rest, '\n', &rest);
        bool first = true;
        while (line.len > 0) {
            struct moon_str word = moon_str_cut(line, ' ', &line);
            if (!first && at + 1 + word.len > WIDTH) {
                (void)printf("\n%*s", (int)indent, "");
                at = indent;
                first = true;
            }
            (void)printf("%s%.*s", first ? "" : " ", MOON_STR_ARG(word));
            at += word.len + (first ? 0 : 1);
            first = false;
        }
        if (rest.len > 0)
            (void)printf("\n%*s", rest.ptr[0] == '\n' ? 0 : (int)indent, "");
        at = indent;
    }
    (void)putchar('\n');
}

static void print_row(const char *namez, const char *valuez, const char *helpz)
{
    int at = printf("  %s%s%s", namez, valuez == NULL ? "" : " ",
                    valuez == NULL ? "" : valuez);
    if (at + 2 > COLUMN)
        (void)printf("\n%*s", COLUMN, "");
    else
        (void)printf("%*s", COLUMN - at, "");
    wrap(helpz, COLUMN, COLUMN);
}

void moon_help_command(const struct moon_command *command)
{
    int at = printf("Usage: moonshine %s", command->namez);
    if (command->usagez[0] != '\0')
        at += printf(" ");
    wrap(command->usagez, (size_t)at, (size_t)at);
    (void)putchar('\n');
    wrap(command->summaryz, 0, 0);
    if (command->detailz != NULL) {
        (void)putchar('\n');
        wrap(command->detailz, 0, 0);
    }
    (void)printf("\nOptions:\n");
    for (size_t i = 0; i < command->option_count; i++) {
        const struct moon_option *option = &command->options[i];
        print_row(option->namez, option->valuez, option->helpz);
    }
    print_row("--help", NULL, "this text");
    if (command->examplesz != NULL)
        (void)printf("\nExamples:\n%s", command->examplesz);
}

void moon_help_program(const struct moon_command *const *commands)
{
    (void)printf("Usage: moonshine COMMAND [ARGUMENT]...\n\n"
                 "A server whose core is C and whose application is Lua. An "
                 "application is a\ndirectory with an app.lua. While you "
                 "write one:\n\n"
                 "    moonshine run --dev DIR\n\n"
                 "serves it on http://127.0.0.1:8080/, reloads when a file is "
                 "saved, and shows\nerrors in the browser.\n");
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (commands[i]->groupz != NULL)
            (void)printf("\n%s:\n", commands[i]->groupz);
        print_row(commands[i]->namez, NULL, commands[i]->summaryz);
    }
    wrap("\nmoonshine COMMAND --help says more about each, moonshine help "
         "config lists the configuration keys. A key is set by an option "
         "(--set key=value), an environment variable (MOONSHINE_ and the key "
         "in capitals, dots as underscores; with _FILE behind it, a file that "
         "holds the value) or a line of config.lua; the first that says it "
         "wins.\n\nExit codes: 0 fine, 1 failed, 2 wrong use.",
         0, 0);
}

static const char *shown_default(uint32_t index)
{
    switch (index) {
    case MOON_CONFIG_KEY_memory_limit_bytes:
        return "the least of 512m and the memory there is / (2 x workers)";
    case MOON_CONFIG_KEY_body_memory_bytes:
        return "the least of 16m and the memory there is / (8 x workers)";
    case MOON_CONFIG_KEY_output_memory_bytes:
        return "the least of 256m and the memory there is / (8 x workers)";
    case MOON_CONFIG_KEY_max_connections:
        return "0.8 x the limit of descriptors";
    case MOON_CONFIG_KEY_session_urlz:
        return "redis.url, else lmdb:";
    case MOON_CONFIG_KEY_limits_urlz:
        return "redis.url";
    case MOON_CONFIG_KEY_cluster_urlz:
        return "limits.url, else redis.url";
    case MOON_CONFIG_KEY_temp_dirz:
        return "$TMPDIR, else /tmp";
    case MOON_CONFIG_KEY_upload_dirz:
        return "temp_dir";
    case MOON_CONFIG_KEY_secrets_newz:
        return "made once and kept in state_dir";
    case MOON_CONFIG_KEY_namez:
        return "node-PORT";
    case MOON_CONFIG_KEY_adminz:
    case MOON_CONFIG_KEY_run_dirz:
    case MOON_CONFIG_KEY_state_dirz:
        return "see moonshine run --help";
    default:
        return moon_config_default(index)[0] != '\0'
                   ? moon_config_default(index)
                   : "none";
    }
}

void moon_help_config(void)
{
    struct moon_buf text = {0};
    const char *keyz;
    wrap("Configuration keys. A key comes from --set key=value, the "
         "environment (MOONSHINE_KEY, dots as underscores; MOONSHINE_KEY_FILE "
         "names a file that holds the value) or config.lua, which assigns "
         "globals or returns a table:",
         0, 0);
    (void)printf("\n    workers = 4\n    log = { level = \"warn\" }\n"
                 "    session = { url = env(\"SESSION_URL\") }\n\n");
    for (uint32_t i = 0; (keyz = moon_config_key(i)) != NULL; i++) {
        text.len = 0;
        moon_config_describe(i, &text);
        moon_buf_printf(&text, "; default: %s", shown_default(i));
        moon_buf_add_char(&text, '\0');
        if (!text.failed)
            print_row(keyz, NULL, text.ptr);
    }
    moon_buf_deinit(&text);
    wrap("\nlisten, admin, workers, name, user, run_dir, state_dir and "
         "metrics.max_series take effect at a restart, all others at a reload.",
         0, 0);
}
