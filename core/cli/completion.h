/* What completes each word of a command line, told from the tables of the
 * commands, and the scripts that let a shell do it. Pure; prints on a stream.
 */
#ifndef MOON_CLI_COMPLETION_H
#define MOON_CLI_COMPLETION_H

#include "base/str.h"
#include "cli/command.h"

#include <stdio.h>

enum moon_completes {
    MOON_COMPLETES_NOTHING, /* an address, a number: only the user knows */
    MOON_COMPLETES_FILE,
    MOON_COMPLETES_DIR,
    MOON_COMPLETES_APP, /* a directory or a .lua file */
    MOON_COMPLETES_KEY, /* a configuration key, then '=' */
    MOON_COMPLETES_NODE,
    MOON_COMPLETES_METHOD,
    MOON_COMPLETES_LIST, /* one of some words */
};

/* By the placeholder of an option's value: "FILE", "KEY=VALUE". */
enum moon_completes moon_completes_value(const char *valuez);
/* The nth word (from 0) of the usage line: "METHOD PATH [APP] [FILE]...". */
struct moon_completes_word {
    enum moon_completes completes;
    struct moon_str text; /* "APP", or "bash|zsh" for a list */
    bool repeats;         /* all that follow are the same */
};
/* False if there is no such word. */
bool moon_completes_word(const struct moon_command *command, size_t nth,
                         struct moon_completes_word *out);

void moon_completion_bash(FILE *out);
void moon_completion_zsh(FILE *out);

#endif
