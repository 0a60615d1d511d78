#include "cli/admin.h"

#include "base/config.h"
#include "base/units.h"
#include "cli/admin_http.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define GO_ON (-1)
#define CONNECT_MS 2000
/* Questions are answered at once; what a POST starts takes as long as it
 * takes. */
#define ANSWER_S 10

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

/* ---- which node ---- */

static int at_address(const struct moon_command *command, const char *textz,
                      struct moon_admin_target *target)
{
    char error[300];
    if (moon_address_parse(moon_strz(textz), &target->address, error,
                           sizeof(error)) != MOON_OK)
        return moon_usage_error(command, "--admin: %s", error);
    (void)snprintf(target->namez, sizeof(target->namez), "%.79s", textz);
    return GO_ON;
}

/* As `name` of the configuration: anything else there is no node's folder. */
static bool is_node_name(struct moon_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                    (ch >= '0' && ch <= '9') || ch == '_' ||
                    ((ch == '-' || ch == '.') && i > 0);
        if (!fine)
            return false;
    }
    return name.len > 0;
}

static bool by_name(const char *run_dirz, struct moon_str name,
                    struct moon_admin_target *target)
{
    char textz[256], error[300];
    int len = snprintf(textz, sizeof(textz), "unix:%s/%.*s/admin.sock",
                       run_dirz, MOON_STR_ARG(name));
    if (!is_node_name(name) || name.len >= sizeof(target->namez) ||
        len >= (int)sizeof(textz))
        return false;
    (void)snprintf(target->namez, sizeof(target->namez), "%.*s",
                   MOON_STR_ARG(name));
    return moon_address_parse(moon_strz(textz), &target->address, error,
                              sizeof(error)) == MOON_OK;
}

static bool answers(const struct moon_admin_target *target)
{
    int fd;
    if (moon_connect(&target->address, CONNECT_MS, &fd) != MOON_OK)
        return false;
    (void)close(fd);
    return true;
}

/* All nodes of the run directory that answer: how many, their names with
 * `betweenz` between two, the last one found. */
static uint32_t find_running(const char *run_dirz, const char *betweenz,
                             struct moon_buf *names,
                             struct moon_admin_target *target)
{
    uint32_t count = 0;
    struct moon_admin_target one;
    DIR *dir = opendir(run_dirz);
    if (dir == NULL)
        return 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (!by_name(run_dirz, moon_strz(entry->d_name), &one) ||
            !answers(&one))
            continue;
        moon_buf_printf(names, "%s%s", count++ > 0 ? betweenz : "",
                        entry->d_name);
        *target = one;
    }
    (void)closedir(dir);
    return count;
}

static int only_one(const struct moon_command *command, const char *run_dirz,
                    struct moon_admin_target *target)
{
    struct moon_buf names = {0};
    int exit_code = GO_ON;
    uint32_t count = find_running(run_dirz, ", ", &names, target);
    if (count == 0)
        exit_code = moon_command_failed(
            command,
            "no node runs here (looked in %s; --run-dir looks elsewhere, "
            "--admin takes an address)",
            run_dirz);
    else if (count > 1)
        exit_code = moon_command_failed(
            command, "%u nodes run here: %.*s; say which with --name", count,
            MOON_STR_ARG(moon_buf_str(&names)));
    moon_buf_deinit(&names);
    return exit_code;
}

static int named(const struct moon_command *command, const char *run_dirz,
                 struct moon_str name, struct moon_admin_target *target)
{
    struct moon_buf names = {0};
    struct moon_admin_target other;
    if (by_name(run_dirz, name, target) && answers(target))
        return GO_ON;
    uint32_t count = find_running(run_dirz, ", ", &names, &other);
    struct moon_str list = moon_buf_str(&names);
    int exit_code = moon_command_failed(
        command, "no node \"%.*s\" runs here (looked in %s); running: %.*s",
        MOON_STR_ARG(name), run_dirz, count > 0 ? (int)list.len : 4,
        count > 0 ? list.ptr : "none");
    moon_buf_deinit(&names);
    return exit_code;
}

/* ---- acting ---- */

static void settle(uint64_t ms)
{
    struct timespec left = {
        .tv_sec = (time_t)(ms / 1000),
        .tv_nsec = (long)(ms % 1000) * 1000000,
    };
    while (nanosleep(&left, &left) != 0)
        continue;
}

static int act_on_names(const struct moon_command *command,
                        const struct moon_admin_args *args,
                        const char *run_dirz, moon_admin_act *act)
{
    struct moon_str rest = moon_strz(args->nodesz);
    while (rest.len > 0) {
        struct moon_admin_target target;
        struct moon_str name = moon_str_trim(moon_str_cut(rest, ',', &rest));
        int exit_code = named(command, run_dirz, name, &target);
        if (exit_code == GO_ON) {
            (void)printf("%s: ", target.namez);
            (void)fflush(stdout);
            exit_code = act(command, args, &target);
        }
        if (exit_code != MOON_EXIT_OK) {
            if (rest.len > 0)
                (void)fprintf(stderr, "moonshine %s: left alone: %.*s\n",
                              command->namez, MOON_STR_ARG(rest));
            return exit_code;
        }
        if (rest.len > 0)
            settle(args->settle_ms);
    }
    return MOON_EXIT_OK;
}

static int act_in(const struct moon_command *command,
                  const struct moon_admin_args *args,
                  const struct moon_config *config, moon_admin_act *act)
{
    struct moon_admin_target target;
    const char *run_dirz = config->run_dirz;
    const char *namez = args->namez;
    int exit_code;
    if (args->nodesz != NULL)
        return act_on_names(command, args, run_dirz, act);
    if (namez == NULL &&
        config->levels[MOON_CONFIG_KEY_namez] == MOON_CONFIG_ENV)
        namez = config->namez;
    if (args->adminz != NULL)
        exit_code = at_address(command, args->adminz, &target);
    else if (args->namez == NULL && config->adminz[0] != '\0')
        exit_code = at_address(command, config->adminz, &target);
    else if (namez != NULL)
        exit_code = named(command, run_dirz, moon_strz(namez), &target);
    else
        exit_code = only_one(command, run_dirz, &target);
    return exit_code == GO_ON ? act(command, args, &target) : exit_code;
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

int moon_admin_for_each(const struct moon_command *command,
                        const struct moon_admin_args *args, moon_admin_act *act)
{
    char error[1024] = "out of memory";
    struct moon_config *config = read_config(args, error, sizeof(error));
    if (config == NULL)
        return moon_command_failed(command, "%s", error);
    int exit_code = act_in(command, args, config, act);
    moon_config_destroy(config);
    return exit_code;
}

int moon_admin_print_names(const struct moon_command *command,
                           const struct moon_admin_args *args)
{
    char error[1024] = "out of memory";
    struct moon_buf names = {0};
    struct moon_admin_target last;
    struct moon_config *config = read_config(args, error, sizeof(error));
    if (config == NULL)
        return moon_command_failed(command, "%s", error);
    (void)find_running(config->run_dirz, "\n", &names, &last);
    if (names.len > 0)
        (void)printf("%.*s\n", MOON_STR_ARG(moon_buf_str(&names)));
    moon_buf_deinit(&names);
    moon_config_destroy(config);
    return MOON_EXIT_OK;
}

/* ---- one request ---- */

static void add_token(struct moon_buf *request)
{
    struct moon_buf token = {0};
    char error[300];
    if (moon_config_env("MOONSHINE_ADMIN_TOKEN", &token, error,
                        sizeof(error)) == MOON_OK &&
        token.len > 0) {
        moon_buf_addz(request, "Authorization: Bearer ");
        moon_buf_add_str(request, moon_buf_str(&token));
        moon_buf_addz(request, "\r\n");
    }
    moon_buf_deinit(&token);
}

/* With --json, what the node says is the output, a refusal too. */
static int print_answer(const struct moon_command *command,
                        const struct moon_admin_target *target, bool json,
                        int status, struct moon_str body)
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
        (void)fprintf(to, "%.*s%s", MOON_STR_ARG(body),
                      body.ptr[body.len - 1] == '\n' ? "" : "\n");
    return good ? MOON_EXIT_OK : MOON_EXIT_FAILED;
}

int moon_admin_request(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_admin_target *target,
                       const char *methodz, const char *pathz)
{
    struct moon_buf request = {0}, body = {0};
    int fd = -1, status = 0, exit_code;
    moon_buf_printf(&request,
                    "%s %s HTTP/1.1\r\nHost: moonshine\r\nAccept: %s\r\n"
                    "Content-Length: 0\r\nConnection: close\r\n",
                    methodz, pathz,
                    args->json ? "application/json" : "text/plain");
    add_token(&request);
    moon_buf_addz(&request, "\r\n");
    enum moon_err err = request.failed
                            ? MOON_ENOMEM
                            : moon_connect(&target->address, CONNECT_MS, &fd);
    if (err == MOON_ENOT_FOUND)
        exit_code = moon_command_failed(command, "no node answers at %s",
                                        target->address.textz);
    else if (err != MOON_OK)
        exit_code =
            moon_command_failed(command, "cannot connect to %s: %s",
                                target->address.textz, moon_err_text(err));
    else {
        const struct timeval patience = {.tv_sec = ANSWER_S};
        if (strcmp(methodz, "GET") == 0)
            (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
                             sizeof(patience));
        err = moon_admin_exchange(fd, moon_buf_str(&request), &status, &body);
        (void)close(fd);
        exit_code =
            err == MOON_OK
                ? print_answer(command, target, args->json, status,
                               moon_buf_str(&body))
                : moon_command_failed(command, "%s: no answer: %s",
                                      target->namez, moon_err_text(err));
    }
    moon_buf_deinit(&request);
    moon_buf_deinit(&body);
    return exit_code;
}
