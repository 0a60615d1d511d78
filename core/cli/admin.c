#include "cli/admin.h"

#include "base/config.h"
#include "base/units.h"
#include "fleet/ask.h"
#include "fleet/listed.h"

#include <stdio.h>
#include <string.h>

#define GO_ON (-1)
#define ANSWER_MS 10000

/* ---- arguments ---- */

static int take(struct moon_admin_args *to, const struct moon_args *args)
{
    char error[300];
    switch (args->id) {
    case MOON_ADMIN_NAME:
        to->namez = args->textz;
        break;
    case MOON_ADMIN_ADMIN:
        to->adminz = args->textz;
        break;
    case MOON_ADMIN_RUN_DIR:
        to->run_dirz = args->textz;
        break;
    case MOON_ADMIN_NODES:
        to->nodesz = args->textz;
        break;
    case MOON_ADMIN_SETTLE:
        if (moon_duration_parse(moon_strz(args->textz), &to->settle_ms, error,
                                sizeof(error)) != MOON_OK)
            return moon_usage_error(args->command, "--settle: %s", error);
        break;
    case MOON_ADMIN_JSON:
        to->json = true;
        break;
    case MOON_ADMIN_REQUESTS:
        to->requests = true;
        break;
    default:
        break;
    }
    return GO_ON;
}

int moon_admin_args_parse(struct moon_admin_args *to,
                          const struct moon_command *command, int argc,
                          char **argv)
{
    struct moon_args args;
    *to = (struct moon_admin_args){0};
    moon_args_init(&args, command, argc, argv);
    for (;;) {
        enum moon_arg what = moon_args_next(&args);
        if (what == MOON_ARG_END)
            break;
        int exit_code =
            what == MOON_ARG_EXIT ? args.exit_code : take(to, &args);
        if (exit_code != GO_ON)
            return exit_code;
    }
    if ((to->namez != NULL) + (to->adminz != NULL) + (to->nodesz != NULL) > 1)
        return moon_usage_error(command,
                                "--name, --admin and --nodes exclude each "
                                "other");
    return GO_ON;
}

/* ---- which nodes ---- */

/* Ends with the reason why there is none. */
static int none(const struct moon_command *command, struct moon_buf *error)
{
    int exit_code =
        moon_command_failed(command, "%.*s", MOON_STR_ARG(moon_buf_str(error)));
    moon_buf_deinit(error);
    return exit_code;
}

static int at_address(const struct moon_command *command, const char *textz,
                      struct moon_targets *to)
{
    struct moon_buf error = {0};
    if (moon_target_at(moon_strz(textz), &to->items[0], &error) != MOON_OK) {
        int exit_code = moon_usage_error(command, "--admin: %.*s",
                                         MOON_STR_ARG(moon_buf_str(&error)));
        moon_buf_deinit(&error);
        return exit_code;
    }
    to->count = 1;
    return GO_ON;
}

static int named(const struct moon_command *command, const char *run_dirz,
                 const char *namez, struct moon_targets *to)
{
    struct moon_buf error = {0};
    if (moon_target_named(run_dirz, moon_strz(namez), &to->items[0], &error) !=
        MOON_OK)
        return none(command, &error);
    to->count = 1;
    return GO_ON;
}

/* As the nodes list themselves. */
static int all(const struct moon_command *command, const char *urlz,
               struct moon_targets *to)
{
    struct moon_buf error = {0}, shown = {0};
    if (urlz[0] == '\0')
        return moon_usage_error(command,
                                "--nodes all: where is their list? Set "
                                "MOONSHINE_CLUSTER_URL to the cluster.url, or "
                                "redis.url, of the nodes");
    if (moon_targets_listed(urlz, to, &error) == MOON_OK)
        return GO_ON;
    moon_config_mask_url(moon_strz(urlz), &shown);
    int exit_code = moon_command_failed(
        command, "the list of nodes at %.*s: %.*s",
        MOON_STR_ARG(moon_buf_str(&shown)), MOON_STR_ARG(moon_buf_str(&error)));
    moon_buf_deinit(&shown);
    moon_buf_deinit(&error);
    return exit_code;
}

/* What is only looked at need not be there. */
static int listed(const struct moon_command *command, const char *run_dirz,
                  const char *listz, struct moon_targets *to)
{
    struct moon_buf error = {0};
    bool looks = command == &moon_command_status;
    return moon_targets_parse(run_dirz, moon_strz(listz), looks, to, &error) ==
                   MOON_OK
               ? GO_ON
               : none(command, &error);
}

static int only_one(const struct moon_command *command, const char *run_dirz,
                    struct moon_targets *to)
{
    struct moon_buf names = {0};
    int exit_code = GO_ON;
    moon_targets_running(run_dirz, to);
    moon_targets_names(to, ", ", &names);
    if (to->count == 0)
        exit_code = moon_command_failed(
            command,
            "no node runs here (looked in %s; --run-dir looks elsewhere, "
            "--admin takes an address)",
            run_dirz);
    else if (to->count > 1)
        exit_code = moon_command_failed(
            command, "%u nodes run here: %.*s; say which with --name",
            to->count, MOON_STR_ARG(moon_buf_str(&names)));
    moon_buf_deinit(&names);
    return exit_code;
}

static int find(const struct moon_command *command,
                const struct moon_admin_args *args,
                const struct moon_config *config, struct moon_targets *to)
{
    const char *run_dirz = config->run_dirz;
    const char *namez = args->namez;
    if (args->nodesz != NULL && strcmp(args->nodesz, "all") == 0)
        return all(command, config->cluster_urlz, to);
    if (args->nodesz != NULL)
        return listed(command, run_dirz, args->nodesz, to);
    if (namez == NULL &&
        config->levels[MOON_CONFIG_KEY_namez] == MOON_CONFIG_ENV)
        namez = config->namez;
    if (args->adminz != NULL)
        return at_address(command, args->adminz, to);
    if (args->namez == NULL && config->adminz[0] != '\0')
        return at_address(command, config->adminz, to);
    return namez != NULL ? named(command, run_dirz, namez, to)
                         : only_one(command, run_dirz, to);
}

/* The configuration as far as it is known here; NULL with the reason in
 * `error`. */
static struct moon_config *read_config(const struct moon_admin_args *args,
                                       char *error, size_t error_size)
{
    struct moon_config *config = moon_config_create();
    /* The environment that started the node may be that of this shell: it
     * knows the run directory, and perhaps name and address. */
    enum moon_err err = config == NULL
                            ? MOON_ENOMEM
                            : moon_config_apply_env(config, error, error_size);
    if (err == MOON_OK && args->run_dirz != NULL)
        err = moon_config_set(config, MOON_STR("run_dir"),
                              moon_strz(args->run_dirz), MOON_CONFIG_OPTION,
                              "--run-dir", error, error_size);
    if (err == MOON_OK)
        err = moon_config_finish(config, error, error_size);
    if (err == MOON_OK)
        err = moon_config_resolve_paths(config, ".");
    if (err == MOON_OK)
        return config;
    moon_config_destroy(config);
    return NULL;
}

int moon_admin_resolve(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_targets **targets)
{
    static struct moon_targets found;
    char error[1024] = "out of memory";
    struct moon_config *config = read_config(args, error, sizeof(error));
    *targets = &found;
    if (config == NULL)
        return moon_command_failed(command, "%s", error);
    int exit_code = find(command, args, config, &found);
    moon_config_destroy(config);
    return exit_code;
}

int moon_admin_print_names(const struct moon_command *command,
                           const struct moon_admin_args *args)
{
    static struct moon_targets running;
    char error[1024] = "out of memory";
    struct moon_config *config = read_config(args, error, sizeof(error));
    if (config == NULL)
        return moon_command_failed(command, "%s", error);
    moon_targets_running(config->run_dirz, &running);
    for (uint32_t i = 0; i < running.count; i++)
        (void)printf("%s\n", running.items[i].namez);
    moon_config_destroy(config);
    return MOON_EXIT_OK;
}

/* ---- acting ---- */

int moon_admin_for_each(const struct moon_command *command,
                        const struct moon_admin_args *args, moon_admin_act *act)
{
    const struct moon_targets *targets;
    int exit_code = moon_admin_resolve(command, args, &targets);
    if (exit_code != GO_ON)
        return exit_code;
    for (uint32_t i = 0; i < targets->count; i++) {
        if (args->nodesz != NULL)
            (void)printf("%s: ", targets->items[i].namez);
        (void)fflush(stdout);
        exit_code = act(command, args, &targets->items[i]);
        if (exit_code == MOON_EXIT_OK)
            continue;
        if (i + 1 < targets->count)
            (void)fprintf(stderr, "moonshine %s: left alone:", command->namez);
        for (uint32_t k = i + 1; k < targets->count; k++)
            (void)fprintf(stderr, " %s%s", targets->items[k].namez,
                          k + 1 < targets->count ? "," : "\n");
        return exit_code;
    }
    return MOON_EXIT_OK;
}

/* With --json, what the node says is the output, a refusal too. */
static int print_answer(const struct moon_command *command,
                        const struct moon_target *target, bool json, int status,
                        struct moon_str body)
{
    bool good = status == 200;
    bool plain = good || (json && body.len > 0 && body.ptr[0] == '{');
    FILE *to = plain ? stdout : stderr;
    if (!plain)
        (void)fprintf(to, "moonshine %s: %s: ", command->namez, target->namez);
    if (!plain && (status == 401 || status == 403))
        (void)fprintf(to, "not allowed; is MOONSHINE_ADMIN_TOKEN the token of "
                          "that node?\n");
    else if (body.len == 0)
        (void)fprintf(to, good ? "ok\n" : "the node answered %d\n", status);
    else
        (void)fprintf(to, "%.*s\n", MOON_STR_ARG(body));
    return good ? MOON_EXIT_OK : MOON_EXIT_FAILED;
}

int moon_admin_request(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_target *target, const char *methodz,
                       const char *pathz)
{
    /* What a POST starts takes as long as it takes. */
    const struct moon_ask ask = {methodz, pathz,
                                 args->json ? "application/json" : "text/plain",
                                 strcmp(methodz, "GET") == 0 ? ANSWER_MS : 0};
    struct moon_buf body = {0}, error = {0};
    int status = 0;
    int exit_code =
        moon_ask_node(target, &ask, &status, &body, &error) == MOON_OK
            ? print_answer(command, target, args->json, status,
                           moon_buf_str(&body))
            : moon_command_failed(command, "%s: %.*s", target->namez,
                                  MOON_STR_ARG(moon_buf_str(&error)));
    moon_buf_deinit(&body);
    moon_buf_deinit(&error);
    return exit_code;
}
