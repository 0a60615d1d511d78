#include "cli/app_args.h"

#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>

#define GO_ON (-1)

static int out_of_memory(const struct moon_command *command)
{
    return moon_command_failed(command, "%s", moon_err_text(MOON_ENOMEM));
}

static int add(struct moon_app_args *app, const struct moon_command *command,
               const char *keyz, const char *valuez, const char *optionz)
{
    if (app->options.setting_count == MOON_APP_SETTINGS)
        return moon_usage_error(command, "more than %d settings",
                                MOON_APP_SETTINGS);
    app->settings[app->options.setting_count++] =
        (struct moon_node_setting){keyz, valuez, optionz};
    return GO_ON;
}

/* "key=value": the key is copied to end in NUL, the value does already. */
static int add_set(struct moon_app_args *app,
                   const struct moon_command *command, const char *textz)
{
    const char *equalsz = strchr(textz, '=');
    if (equalsz == NULL || equalsz == textz)
        return moon_usage_error(command, "--set needs key=value, not \"%s\"",
                                textz);
    if (app->options.setting_count < MOON_APP_SETTINGS)
        app->set_at[app->options.setting_count] = app->sets.len;
    moon_buf_add(&app->sets, textz, (size_t)(equalsz - textz));
    moon_buf_add_char(&app->sets, '\0');
    return add(app, command, NULL, equalsz + 1, "--set");
}

static int add_listen(struct moon_app_args *app, const char *textz)
{
    if (app->listen.len > 0)
        moon_buf_add_char(&app->listen, ',');
    moon_buf_addz(&app->listen, textz);
    return GO_ON;
}

static int take(struct moon_app_args *app, const struct moon_args *args)
{
    const struct moon_command *command = args->command;
    switch (args->id) {
    case MOON_APP_LISTEN:
        return add_listen(app, args->textz);
    case MOON_APP_ADMIN:
        return add(app, command, "admin", args->textz, "--admin");
    case MOON_APP_WORKERS:
        return add(app, command, "workers", args->textz, "--workers");
    case MOON_APP_CONFIG:
        app->options.configz = args->textz;
        return GO_ON;
    case MOON_APP_SET:
        return add_set(app, command, args->textz);
    case MOON_APP_NAME:
        return add(app, command, "name", args->textz, "--name");
    case MOON_APP_RUN_DIR:
        return add(app, command, "run_dir", args->textz, "--run-dir");
    case MOON_APP_STATE_DIR:
        return add(app, command, "state_dir", args->textz, "--state-dir");
    case MOON_APP_DEV:
        app->options.dev = true;
        return GO_ON;
    case MOON_APP_DEV_PUBLIC:
        app->options.dev_public = true;
        return GO_ON;
    case MOON_APP_NO_FALLBACK:
        app->options.no_fallback = true;
        return GO_ON;
    default:
        return GO_ON;
    }
}

/* A scratch configuration refuses what the real one would. */
static int check_settings(const struct moon_app_args *app,
                          const struct moon_command *command)
{
    char error[1024];
    int exit_code = GO_ON;
    struct moon_config *config = moon_config_create();
    if (config == NULL)
        return out_of_memory(command);
    for (size_t i = 0; i < app->options.setting_count && exit_code == GO_ON;
         i++) {
        const struct moon_node_setting *s = &app->settings[i];
        enum moon_err err = moon_config_set(
            config, moon_strz(s->keyz), moon_strz(s->valuez),
            MOON_CONFIG_OPTION, s->optionz, error, sizeof(error));
        if (err == MOON_ENOMEM)
            exit_code = out_of_memory(command);
        else if (err != MOON_OK)
            exit_code = moon_usage_error(command, "%s", error);
    }
    moon_config_destroy(config);
    return exit_code;
}

/* Once the buffers have stopped moving, keys and lists can point into them. */
static int complete(struct moon_app_args *app,
                    const struct moon_command *command)
{
    if (app->options.dev_public && !app->options.dev)
        return moon_usage_error(command, "--dev-public goes with --dev");
    if (app->listen.len > 0) {
        moon_buf_add_char(&app->listen, '\0');
        int exit_code =
            add(app, command, "listen", app->listen.ptr, "--listen");
        if (exit_code != GO_ON)
            return exit_code;
    }
    if (app->listen.failed || app->sets.failed)
        return out_of_memory(command);
    for (size_t i = 0; i < app->options.setting_count; i++) {
        if (app->settings[i].keyz == NULL)
            app->settings[i].keyz = app->sets.ptr + app->set_at[i];
    }
    if (app->options.appz == NULL) {
        const char *appz = getenv("MOONSHINE_APP");
        app->options.appz = appz != NULL && appz[0] != '\0' ? appz : ".";
    }
    app->options.settings = app->settings;
    return check_settings(app, command);
}

static int take_word(void *ctx, struct moon_app_args *app,
                     const struct moon_args *args, bool is_word)
{
    (void)ctx;
    if (is_word)
        app->options.appz = args->textz;
    return GO_ON;
}

int moon_app_args_parse(struct moon_app_args *app,
                        const struct moon_command *command, int argc,
                        char **argv)
{
    return moon_app_args_parse_own(app, command, argc, argv, take_word, NULL);
}

int moon_app_args_parse_own(struct moon_app_args *app,
                            const struct moon_command *command, int argc,
                            char **argv, moon_app_args_own *own, void *ctx)
{
    struct moon_args args;
    *app = (struct moon_app_args){0};
    moon_args_init(&args, command, argc, argv);
    for (;;) {
        int exit_code = GO_ON;
        switch (moon_args_next(&args)) {
        case MOON_ARG_END:
            return complete(app, command);
        case MOON_ARG_WORD:
            exit_code = own(ctx, app, &args, true);
            break;
        case MOON_ARG_OPTION:
            exit_code = args.id >= MOON_APP_OWN ? own(ctx, app, &args, false)
                                                : take(app, &args);
            break;
        case MOON_ARG_EXIT:
            exit_code = args.exit_code;
            break;
        }
        if (exit_code != GO_ON)
            return exit_code;
    }
}

void moon_app_args_deinit(struct moon_app_args *app)
{
    moon_buf_deinit(&app->listen);
    moon_buf_deinit(&app->sets);
}
