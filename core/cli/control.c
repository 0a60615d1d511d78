/* reload, rollback and stop: each asks a node to do one thing and waits until
 * it is done. */
#include "cli/admin.h"
#include "fleet/rolling.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const struct moon_option options[] = {MOON_ADMIN_OPTIONS};
static const struct moon_option reload_options[] = {
    MOON_ADMIN_OPTIONS,
    {MOON_ADMIN_SETTLE, "--settle", "DURATION",
     "with --nodes: watch each node for so long, and roll it back and stop if "
     "more requests fail than before, or take longer (default: 0)"},
};

static int run(const struct moon_command *command, int argc, char **argv,
               moon_admin_act *act)
{
    struct moon_admin_args args;
    int exit_code = moon_admin_args_parse(&args, command, argc, argv);
    return exit_code >= 0 ? exit_code
                          : moon_admin_for_each(command, &args, act);
}

static int post_reload(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_target *target)
{
    return moon_admin_request(command, args, target, "POST", "/-/reload");
}

static int reload(const struct moon_command *command, int argc, char **argv)
{
    const struct moon_targets *targets;
    struct moon_admin_args args;
    int exit_code = moon_admin_args_parse(&args, command, argc, argv);
    if (exit_code >= 0)
        return exit_code;
    if (args.settle_ms > 0 && args.nodesz == NULL)
        return moon_usage_error(command, "--settle goes with --nodes");
    if (args.nodesz == NULL || args.json)
        return moon_admin_for_each(command, &args, post_reload);
    exit_code = moon_admin_resolve(command, &args, &targets);
    if (exit_code >= 0)
        return exit_code;
    return moon_rolling_reload(targets, args.settle_ms) ? MOON_EXIT_OK
                                                        : MOON_EXIT_FAILED;
}

static int post_rollback(const struct moon_command *command,
                         const struct moon_admin_args *args,
                         const struct moon_target *target)
{
    return moon_admin_request(command, args, target, "POST", "/-/rollback");
}

static int rollback(const struct moon_command *command, int argc, char **argv)
{
    return run(command, argc, argv, post_rollback);
}

/* Which process listens there: 0 if nobody does, -1 if it cannot be told. */
static pid_t listener(const struct moon_target *target)
{
    struct ucred peer = {.pid = -1};
    socklen_t len = sizeof(peer);
    int fd;
    if (moon_connect(&target->address, 1000, &fd) != MOON_OK)
        return 0;
    if (target->address.pathz[0] == '\0' ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        peer.pid = -1;
    (void)close(fd);
    return peer.pid;
}

/* The node gives up its admin address last, so it is gone when nobody listens
 * there, or somebody else (a supervisor may have started a new one). */
static int post_stop(const struct moon_command *command,
                     const struct moon_admin_args *args,
                     const struct moon_target *target)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000000};
    pid_t before = listener(target);
    int exit_code =
        moon_admin_request(command, args, target, "POST", "/-/stop");
    if (exit_code != MOON_EXIT_OK)
        return exit_code;
    (void)fflush(stdout);
    for (;;) {
        pid_t now = listener(target);
        if (now == 0 || now != before)
            return MOON_EXIT_OK;
        (void)nanosleep(&pause, NULL);
    }
}

static int stop(const struct moon_command *command, int argc, char **argv)
{
    return run(command, argc, argv, post_stop);
}

const struct moon_command moon_command_reload = {
    .namez = "reload",
    .groupz = "Running nodes",
    .usagez = "[OPTION]...",
    .summaryz = "Load the scripts of a running node anew, on all its workers",
    .detailz = "Waits for the outcome: prints \"generation 7 live on 4 workers "
               "(12 routes)\" and exits with 0, or the error and exits with "
               "1; then the code that served before serves on.",
    .options = reload_options,
    .option_count = MOON_COUNT(reload_options),
    .run = reload,
};

const struct moon_command moon_command_rollback = {
    .namez = "rollback",
    .usagez = "[OPTION]...",
    .summaryz = "Return a running node to the code it served before",
    .detailz = "The last three sets of code that went live are kept in the "
               "state directory; what is on disk now is not read.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .run = rollback,
};

const struct moon_command moon_command_stop = {
    .namez = "stop",
    .usagez = "[OPTION]...",
    .summaryz = "Drain a running node and end it",
    .detailz = "What is in flight is finished first (up to drain_timeout). "
               "Returns once the node is gone.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .run = stop,
};
