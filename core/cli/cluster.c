/* cluster: several nodes of an application and nginx, on this machine. */
#include "cli/app_args.h"
#include "fleet/cluster.h"
#include "node/layers.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    OPTION_SIZE = MOON_APP_OWN,
    OPTION_BALANCE,
    OPTION_LISTEN,
    OPTION_NAME,
    OPTION_NGINX,
};

enum { GO_ON = -1, SIZE_DEFAULT = 3 };

struct cluster_args {
    struct moon_cluster_options options;
    struct moon_nginx nginx;
};

static int refused(const struct moon_args *args, const char *optionz,
                   struct moon_buf *why)
{
    int exit_code = moon_usage_error(args->command, "%s: %.*s", optionz,
                                     MOON_STR_ARG(moon_buf_str(why)));
    moon_buf_deinit(why);
    return exit_code;
}

static int take_size(struct cluster_args *cluster, const struct moon_args *args)
{
    uint64_t size;
    if (!moon_str_to_u64(moon_strz(args->textz), &size) || size == 0 ||
        size > MOON_CLUSTER_MAX)
        return moon_usage_error(args->command,
                                "--size: expected a number from 1 to %d, not "
                                "\"%s\"",
                                MOON_CLUSTER_MAX, args->textz);
    cluster->options.size = (uint32_t)size;
    return GO_ON;
}

static int take(void *ctx, struct moon_app_args *app,
                const struct moon_args *args, bool is_word)
{
    struct cluster_args *cluster = ctx;
    struct moon_str text = moon_strz(args->textz);
    struct moon_buf why = {0};
    if (is_word) {
        app->options.appz = args->textz;
        return GO_ON;
    }
    switch (args->id) {
    case OPTION_SIZE:
        return take_size(cluster, args);
    case OPTION_BALANCE:
        if (moon_nginx_set_balance(&cluster->nginx, text, &why) != MOON_OK)
            return refused(args, "--balance", &why);
        return GO_ON;
    case OPTION_LISTEN:
        if (moon_nginx_add_listen(&cluster->nginx, text, &why) != MOON_OK)
            return refused(args, "--listen", &why);
        return GO_ON;
    case OPTION_NAME:
        cluster->options.namez = args->textz;
        return GO_ON;
    default:
        cluster->options.nginxz = args->textz;
        return GO_ON;
    }
}

/* The arguments of each node: what this command was given, checked by now. */
struct node_args {
    const char *items[MOON_CLUSTER_ARGS];
    size_t count;
    struct moon_buf texts; /* "key=value", each ended by NUL */
    size_t at[MOON_APP_SETTINGS];
};

static void fill(struct node_args *to, const struct moon_app_args *app)
{
    const struct moon_node_options *o = &app->options;
    /* nginx comes through the nodes' sockets. Whoever sets it, sets it. */
    moon_buf_add(&to->texts, "trusted_proxies=unix", 21);
    for (size_t i = 0; i < o->setting_count; i++) {
        to->at[i] = to->texts.len;
        moon_buf_printf(&to->texts, "%s=%s", o->settings[i].keyz,
                        o->settings[i].valuez);
        moon_buf_add_char(&to->texts, '\0');
    }
    if (to->texts.failed)
        return;
    if (o->appz != NULL)
        to->items[to->count++] = o->appz;
    if (o->configz != NULL) {
        to->items[to->count++] = "--config";
        to->items[to->count++] = o->configz;
    }
    to->items[to->count++] = "--set";
    to->items[to->count++] = to->texts.ptr;
    for (size_t i = 0; i < o->setting_count; i++) {
        to->items[to->count++] = "--set";
        to->items[to->count++] = to->texts.ptr + to->at[i];
    }
}

static int serve(const struct moon_command *command,
                 struct cluster_args *cluster, const struct moon_app_args *app,
                 const struct moon_config *config)
{
    static struct node_args args;
    static char program[PATH_MAX];
    struct moon_buf why = {0};
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (n < 0)
        return moon_command_failed(command, "cannot find this program");
    program[n] = '\0';
    if (cluster->nginx.listen_count == 0 &&
        moon_nginx_add_listen(&cluster->nginx, MOON_STR("127.0.0.1:8080"),
                              &why) != MOON_OK)
        return MOON_EXIT_FAILED;
    fill(&args, app);
    if (args.texts.failed)
        return moon_command_failed(command, "out of memory");
    cluster->nginx.full = true;
    cluster->options.programz = program;
    cluster->options.args = args.items;
    cluster->options.arg_count = args.count;
    cluster->options.run_dirz = config->run_dirz;
    cluster->options.nginx = &cluster->nginx;
    cluster->options.config = config;
    int exit_code = moon_cluster_run(&cluster->options);
    moon_buf_deinit(&args.texts);
    return exit_code;
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_app_args app;
    struct moon_config *config = NULL;
    struct moon_buf error = {0};
    struct cluster_args cluster = {
        .options = {.nginxz = "nginx", .namez = "node", .size = SIZE_DEFAULT}};
    moon_nginx_init(&cluster.nginx);
    int exit_code =
        moon_app_args_parse_own(&app, command, argc, argv, take, &cluster);
    if (exit_code == GO_ON &&
        moon_layers_build(&app.options, NULL, &config, &error) != MOON_OK)
        exit_code = moon_command_failed(command, "%.*s",
                                        MOON_STR_ARG(moon_buf_str(&error)));
    if (exit_code == GO_ON)
        exit_code = serve(command, &cluster, &app, config);
    moon_buf_deinit(&error);
    moon_config_destroy(config);
    moon_nginx_deinit(&cluster.nginx);
    moon_app_args_deinit(&app);
    return exit_code;
}

static const struct moon_option options[] = {
    {OPTION_SIZE, "--size", "N", "how many nodes (default: 3)"},
    {OPTION_LISTEN, "--listen", "ADDR",
     "where nginx listens (default: 127.0.0.1:8080); may be given several "
     "times"},
    {OPTION_BALANCE, "--balance", "HOW",
     "as in moonshine nginx: round_robin (default), least_conn, random, "
     "ip_hash, hash:KEY"},
    {OPTION_NAME, "--name", "NAME", "nodes are NAME-1, NAME-2 (default: node)"},
    {OPTION_NGINX, "--nginx", "PROGRAM", "nginx to run (default: nginx)"},
    {MOON_APP_WORKERS, "--workers", "N", "worker processes of each node"},
    {MOON_APP_CONFIG, "--config", "FILE", "configuration of the nodes"},
    {MOON_APP_SET, "--set", "KEY=VALUE", "one configuration key of the nodes"},
    {MOON_APP_RUN_DIR, "--run-dir", "DIR", "as for run"},
    {MOON_APP_STATE_DIR, "--state-dir", "DIR",
     "as for run; the nodes share it, and with it sessions"},
};

const struct moon_command moon_command_cluster = {
    .namez = "cluster",
    .usagez = "[APP] [OPTION]...",
    .summaryz = "Run several nodes and nginx on this machine",
    .detailz =
        "Starts the nodes, then nginx in front of them, and shows a table of "
        "them until Ctrl-C, which lets all finish what is in flight. Sessions "
        "are shared through the state directory; limits with scope=\"cluster\" "
        "need redis.url.\n\n"
        "SIGUSR1 reloads the scripts of all nodes, one after the other; so "
        "does moonshine reload --nodes node-1,node-2,node-3.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .examplesz = "  moonshine cluster shop --size 3 --balance least_conn\n"
                 "  moonshine cluster shop --workers 1 --set "
                 "redis.url=redis://127.0.0.1:6379\n",
    .max_words = 1,
    .run = run,
};
