#include "cli/command.h"

#include "base/str.h"

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
    int at = printf("Usage: moonshine %s ", command->namez);
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
}

void moon_help_program(const struct moon_command *const *commands)
{
    (void)printf("Usage: moonshine COMMAND [ARGUMENT]...\n\n"
                 "A server whose core is C and whose application is Lua.\n\n"
                 "Commands:\n");
    for (size_t i = 0; commands[i] != NULL; i++)
        print_row(commands[i]->namez, NULL, commands[i]->summaryz);
    (void)printf("\nmoonshine COMMAND --help says more about each.\n");
    wrap("\nExit codes: 0 fine, 1 failed, 2 wrong use. Every configuration "
         "key can be an option (--set key=value), an environment variable "
         "(MOONSHINE_ and the key in capitals, dots as underscores; with "
         "_FILE behind it, a file that holds the value) or a line of "
         "config.lua, in this order of precedence.",
         0, 0);
}
