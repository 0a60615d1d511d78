/* nginx: print a configuration of nginx for a set of nodes. */
#include "cli/command.h"

#include "fleet/nginx_config.h"

#include <stdio.h>

enum {
    UPSTREAM = 1,
    BALANCE,
    LISTEN,
    SERVER_NAME,
    TLS,
    NAME,
    SET,
    FULL,
};

struct work {
    const struct moon_command *command;
    struct moon_nginx nginx;
    struct moon_config *nodes; /* owned */
    struct moon_buf why;
};

static enum moon_err add_servers(struct work *work, struct moon_str list)
{
    enum moon_err err = MOON_OK;
    do {
        struct moon_str one = moon_str_cut(list, ',', &list);
        err = moon_nginx_add_server(&work->nginx, one, &work->why);
    } while (err == MOON_OK && list.len > 0);
    return err;
}

static enum moon_err set_key(struct work *work, const char *textz)
{
    char error[512];
    struct moon_str value;
    struct moon_str key = moon_str_cut(moon_strz(textz), '=', &value);
    if (key.len == strlen(textz)) {
        moon_buf_printf(&work->why, "\"%s\" is not KEY=VALUE", textz);
        return MOON_EINVAL;
    }
    enum moon_err err =
        moon_config_set(work->nodes, key, value, MOON_CONFIG_OPTION, "--set",
                        error, sizeof(error));
    if (err != MOON_OK)
        moon_buf_addz(&work->why, error);
    return err;
}

static enum moon_err take(struct work *work, int id, const char *textz)
{
    struct moon_nginx *nginx = &work->nginx;
    switch (id) {
    case UPSTREAM:
        return add_servers(work, moon_strz(textz));
    case BALANCE:
        return moon_nginx_set_balance(nginx, moon_strz(textz), &work->why);
    case LISTEN:
        return moon_nginx_add_listen(nginx, moon_strz(textz), &work->why);
    case SERVER_NAME:
        return moon_nginx_set_server_name(nginx, textz, &work->why);
    case TLS:
        return moon_nginx_set_tls(nginx, moon_strz(textz), &work->why);
    case NAME:
        return moon_nginx_set_name(nginx, textz, &work->why);
    case SET:
        return set_key(work, textz);
    default:
        nginx->full = true;
        return MOON_OK;
    }
}

static int print(struct work *work)
{
    if (work->nginx.server_count == 0)
        return moon_usage_error(work->command,
                                "which nodes? As in: moonshine nginx "
                                "--upstream 127.0.0.1:8081,127.0.0.1:8082");
    struct moon_buf out = {0};
    moon_nginx_print(&work->nginx, work->nodes, &out);
    if (out.failed) {
        moon_buf_deinit(&out);
        return moon_command_failed(work->command, "out of memory");
    }
    (void)fwrite(out.ptr, 1, out.len, stdout);
    moon_buf_deinit(&out);
    return MOON_EXIT_OK;
}

static int work_off(struct work *work, int argc, char **argv)
{
    struct moon_args args;
    moon_args_init(&args, work->command, argc, argv);
    for (;;) {
        switch (moon_args_next(&args)) {
        case MOON_ARG_END:
            return print(work);
        case MOON_ARG_EXIT:
            return args.exit_code;
        case MOON_ARG_WORD:
            break; /* max_words is 0 */
        case MOON_ARG_OPTION:
            if (take(work, args.id, args.textz) == MOON_OK)
                break;
            moon_buf_add_char(&work->why, '\0');
            return moon_usage_error(work->command, "%s",
                                    work->why.failed ? "out of memory"
                                                     : work->why.ptr);
        }
    }
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct work work = {.command = command, .nodes = moon_config_create()};
    if (work.nodes == NULL)
        return moon_command_failed(command, "out of memory");
    moon_nginx_init(&work.nginx);
    int exit_code = work_off(&work, argc, argv);
    moon_nginx_deinit(&work.nginx);
    moon_config_destroy(work.nodes);
    moon_buf_deinit(&work.why);
    return exit_code;
}

static const struct moon_option options[] = {
    {UPSTREAM, "--upstream", "ADDR[*WEIGHT],...",
     "the nodes: HOST:PORT, PORT or unix:PATH; may be given several times"},
    {BALANCE, "--balance", "HOW",
     "round_robin (default), least_conn, random (the less busy of two), "
     "ip_hash, or hash:KEY with the key uri, path, ip, host, header:NAME, "
     "cookie:NAME or query:NAME"},
    {LISTEN, "--listen", "ADDR",
     "where nginx listens (default: 80, with --tls 443; with --full 8080 and "
     "8443); may be given several times"},
    {SERVER_NAME, "--server-name", "HOST,...", "hosts (default: any)"},
    {TLS, "--tls", "CERT,KEY", "two files; TLS and HTTP/2"},
    {NAME, "--name", "NAME",
     "of the upstream, the log and the variables (default: moonshine)"},
    {SET, "--set", "KEY=VALUE",
     "what the nodes' configuration says: body_limit, header_limit, "
     "request_line_limit, timeout, drain_idle, forwarded ..."},
    {FULL, "--full", NULL,
     "a whole file, which needs no root, instead of what belongs into http {}"},
};

const struct moon_command moon_command_nginx = {
    .namez = "nginx",
    .usagez = "--upstream ADDR[*WEIGHT],... [OPTION]...",
    .summaryz = "Print an nginx configuration for a set of nodes",
    .detailz =
        "For nginx 1.22 and later. Balancing, retries that run no request "
        "twice, kept connections, forwarded headers, and limits and timeouts "
        "that go with the nodes'; each with its reason. Without --set, the "
        "nodes are taken to have their defaults.\n\n"
        "The nodes believe the forwarded headers if trusted_proxies names "
        "nginx's address, or \"unix\".",
    .options = options,
    .option_count = MOON_COUNT(options),
    .examplesz =
        "  moonshine nginx --upstream 127.0.0.1:8081,127.0.0.1:8082 \\\n"
        "      > /etc/nginx/conf.d/shop.conf && nginx -t\n"
        "  moonshine nginx --upstream unix:/run/a.sock*3,unix:/run/b.sock \\\n"
        "      --balance least_conn --tls shop.pem,shop.key\n"
        "  moonshine nginx --upstream 8081 --full > web/nginx.conf\n"
        "  nginx -p web -e error.log -c nginx.conf\n",
    .run = run,
};
