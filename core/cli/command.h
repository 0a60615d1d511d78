/* The commands and how their arguments are read.
 *
 * Each command is one table: its options, its help, its function. Reading
 * arguments and printing help work from the table, so neither can drift from
 * it. One thread; everything is borrowed from argv or static. */
#ifndef MOON_CLI_COMMAND_H
#define MOON_CLI_COMMAND_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    MOON_EXIT_OK = 0,
    MOON_EXIT_FAILED = 1,
    MOON_EXIT_USAGE = 2,
};

struct moon_option {
    int id;             /* the command's own enum, from 1 */
    const char *namez;  /* "--listen" */
    const char *valuez; /* "ADDR"; NULL: takes none */
    const char *helpz;
};

struct moon_command {
    const char *namez;
    const char *usagez;    /* what follows the name: "[APP] [OPTION]..." */
    const char *summaryz;  /* one line, for the list of commands */
    const char *groupz;    /* title above it in that list; NULL: none */
    const char *detailz;   /* paragraphs between usage and options */
    const char *examplesz; /* lines at the end; NULL: none */
    const struct moon_option *options;
    size_t option_count;
    size_t max_words;
    int (*run)(const struct moon_command *command, int argc, char **argv);
};

extern const struct moon_command moon_command_run, moon_command_check,
    moon_command_routes, moon_command_reload, moon_command_rollback,
    moon_command_stop, moon_command_status, moon_command_version,
    moon_command_route, moon_command_nginx, moon_command_cluster,
    moon_command_new, moon_command_test, moon_command_completion;

/* All of them, in the order of help; ends with NULL. */
extern const struct moon_command *const moon_commands[];

/* The whole program: the exit code. */
int moon_cli_main(int argc, char **argv);

/* ---- reading arguments ---- */

struct moon_args {
    const struct moon_command *command;
    char **argv;
    int argc, at;
    size_t words;
    bool only_words;   /* after "--" */
    int id;            /* MOON_ARG_OPTION: which */
    const char *textz; /* an option's value, or the word; borrowed of argv */
    int exit_code;     /* MOON_ARG_EXIT */
};

enum moon_arg {
    MOON_ARG_END,
    MOON_ARG_OPTION,
    MOON_ARG_WORD,
    MOON_ARG_EXIT, /* help was printed, or an error: leave with exit_code */
};

/* `argv` without the names of program and command. */
void moon_args_init(struct moon_args *args, const struct moon_command *command,
                    int argc, char **argv);
enum moon_arg moon_args_next(struct moon_args *args);

/* Says "moonshine run: ..." on standard error, and where to read on. Returns
 * MOON_EXIT_USAGE. */
int moon_usage_error(const struct moon_command *command, const char *fmt, ...)
    MOON_PRINTF(2, 3);
/* The same without the pointer to help; returns MOON_EXIT_FAILED. */
int moon_command_failed(const struct moon_command *command, const char *fmt,
                        ...) MOON_PRINTF(2, 3);

/* ---- help ---- */

void moon_help_command(const struct moon_command *command);
/* The configuration keys. */
void moon_help_config(void);
void moon_help_program(const struct moon_command *const *commands);

#endif
