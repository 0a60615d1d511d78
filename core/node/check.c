/* `moonshine check`, `routes` and `route`: one probe, nothing else. */
#include "node/node.h"

#include "base/log.h"
#include "node/probe.h"
#include "node/process.h"

#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct check {
    struct moon_probe probe;
    uv_loop_t loop;
    uv_poll_t signals;
    int signal_fd;
    bool ok, interrupted;
};

static void on_signal(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct check *check = poll->data;
    struct signalfd_siginfo info;
    while (read(check->signal_fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD) {
            check->interrupted = true;
            moon_probe_kill(&check->probe);
        }
    }
    int end;
    pid_t pid = waitpid(-1, &end, WNOHANG);
    if (pid > 0)
        (void)moon_probe_reaped(&check->probe, pid, end);
}

static void on_done(void *ctx, struct moon_probe *probe, bool ok)
{
    (void)probe;
    struct check *check = ctx;
    check->ok = ok && !check->interrupted;
    uv_close((uv_handle_t *)&check->signals, NULL);
}

static bool run_probe(struct check *check,
                      const struct moon_probe_options *options,
                      uint64_t timeout_ms)
{
    sigset_t set;
    moon_process_signal_set(&set);
    check->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    check->signals.data = check->probe.ctx = check;
    check->probe.on_done = on_done;
    if (check->signal_fd < 0 || uv_loop_init(&check->loop) != 0 ||
        uv_poll_init(&check->loop, &check->signals, check->signal_fd) != 0 ||
        uv_poll_start(&check->signals, UV_READABLE, on_signal) != 0 ||
        moon_probe_start(&check->probe, &check->loop, options, timeout_ms) !=
            MOON_OK)
        return false;
    (void)uv_run(&check->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&check->loop);
    (void)close(check->signal_fd);
    return true;
}

static void print_text(FILE *out, const char *prefixz, struct moon_str text)
{
    while (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.len--;
    if (text.len > 0)
        (void)fprintf(out, "%s%.*s\n", prefixz, MOON_STR_ARG(text));
}

static int check_with(const struct moon_node_options *options,
                      struct moon_probe_options probe)
{
    static struct check check;
    moon_process_block_signals();
    check = (struct check){0};
    struct moon_app_paths paths;
    struct moon_buf error = {0};
    struct moon_config *config = NULL;
    enum moon_err err = moon_app_paths_init(&paths, options, &error);
    if (err == MOON_OK)
        err = moon_layers_build(options, NULL, &config, &error);
    if (err != MOON_OK) {
        print_text(stderr, "moonshine: ", moon_buf_str(&error));
        moon_buf_deinit(&error);
        moon_app_paths_deinit(&paths);
        return 1;
    }
    probe.node = options;
    probe.paths = &paths;
    probe.generation = 1;
    probe.kept_fd = -1;
    probe.kept_dirz = paths.dirz;
    if (!run_probe(&check, &probe, config->load_timeout_ms))
        moon_buf_addz(&check.probe.text, "cannot start the probe");
    struct moon_str text = moon_buf_str(&check.probe.text);
    print_text(stderr, check.ok ? "warning: " : "error: ", text);
    if (check.ok && probe.mode == MOON_PROBE_CHECK)
        (void)printf("ok: %u route%s\n", check.probe.count,
                     check.probe.count == 1 ? "" : "s");
    else if (probe.mode == MOON_PROBE_ROUTE)
        check.ok = check.ok && check.probe.count > 0;
    moon_release_unref(moon_probe_take_release(&check.probe));
    moon_probe_deinit(&check.probe);
    moon_buf_deinit(&error);
    moon_config_destroy(config);
    moon_app_paths_deinit(&paths);
    return check.ok ? 0 : 1;
}

int moon_node_check(const struct moon_node_options *options)
{
    return check_with(options,
                      (struct moon_probe_options){.mode = MOON_PROBE_CHECK});
}

int moon_node_routes(const struct moon_node_options *options)
{
    return check_with(options,
                      (struct moon_probe_options){.mode = MOON_PROBE_ROUTES});
}

int moon_node_route(const struct moon_node_options *options,
                    const char *methodz, const char *pathz)
{
    return check_with(options,
                      (struct moon_probe_options){.mode = MOON_PROBE_ROUTE,
                                                  .methodz = methodz,
                                                  .pathz = pathz});
}
