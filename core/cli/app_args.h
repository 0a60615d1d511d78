/* What the commands that load an application (run, check, routes, route) have
 * in common: APP, --config, --set and the options that stand for a key.
 *
 * The values are checked here, so that wrong use is found before anything
 * starts. */
#ifndef MOON_CLI_APP_ARGS_H
#define MOON_CLI_APP_ARGS_H

#include "base/buf.h"
#include "cli/command.h"
#include "node/node.h"

#define MOON_APP_SETTINGS 128

struct moon_app_args {
    struct moon_node_options options; /* points into this struct and argv */
    struct moon_node_setting settings[MOON_APP_SETTINGS];
    struct moon_buf listen; /* all --listen, by comma */
    struct moon_buf sets;   /* keys of --set, each ended by NUL */
    size_t set_at[MOON_APP_SETTINGS];
};

/* Ids of the options; a command's table uses those it has. */
enum {
    MOON_APP_LISTEN = 1,
    MOON_APP_ADMIN,
    MOON_APP_WORKERS,
    MOON_APP_CONFIG,
    MOON_APP_SET,
    MOON_APP_NAME,
    MOON_APP_RUN_DIR,
    MOON_APP_STATE_DIR,
    MOON_APP_DEV,
    MOON_APP_DEV_PUBLIC,
    MOON_APP_NO_FALLBACK,
    MOON_APP_OWN, /* from here on: of one command */
};

/* -1: go on; else the exit code to leave with. */
int moon_app_args_parse(struct moon_app_args *app,
                        const struct moon_command *command, int argc,
                        char **argv);
/* For a command with arguments of its own: `own` gets the options from
 * MOON_APP_OWN on, and the words, of which it sets app->options.appz. It
 * returns as this does. */
typedef int moon_app_args_own(void *ctx, struct moon_app_args *app,
                              const struct moon_args *args, bool is_word);
int moon_app_args_parse_own(struct moon_app_args *app,
                            const struct moon_command *command, int argc,
                            char **argv, moon_app_args_own *own, void *ctx);
void moon_app_args_deinit(struct moon_app_args *app);

#endif
