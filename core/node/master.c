#include "node/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/master_internal.h"
#include "node/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* KILL_AFTER: beyond drain_timeout, for a worker that cannot even be cut off.
 */
enum { KILL_AFTER_MS = 2000, SAME_SIGNAL_MS = 100 };

/* ---- the end ---- */

static void close_handles(struct moon_master *master)
{
    if (uv_is_closing((uv_handle_t *)&master->tick))
        return;
    moon_dev_watch_close(master);
    moon_admin_close(master);
    uv_close((uv_handle_t *)&master->tick, NULL);
    uv_close((uv_handle_t *)&master->signals, NULL);
}

void moon_master_check_end(struct moon_master *master)
{
    if (master->state == MOON_MASTER_DRAINING && master->live_children == 0 &&
        master->reload.phase == MOON_RELOAD_IDLE && !moon_admin_is_busy(master))
        close_handles(master);
}

static uint64_t drain_timeout_ms(const struct moon_master *master)
{
    return master->current != NULL ? master->current->config->drain_timeout_ms
                                   : 0;
}

/* drain_delay is over: the workers take what has queued and finish. */
static void send_drain(struct moon_master *master)
{
    master->drain_sent = true;
    master->drain_end_ms =
        moon_clock_ms() + drain_timeout_ms(master) + KILL_AFTER_MS;
    for (uint32_t i = 0; i < master->place_count; i++)
        if (master->places[i].child != NULL)
            moon_supervise_drain(master->places[i].child, 0);
    /* The workers have their own descriptors of the same sockets. */
    moon_master_close_listeners(master);
    moon_master_check_end(master);
}

void moon_master_drain(struct moon_master *master, const char *whyz)
{
    if (master->state == MOON_MASTER_DRAINING)
        return;
    if (whyz != NULL)
        moon_log(MOON_LOG_INFO, "%s: finishing what is in flight, then exit",
                 whyz);
    master->state = MOON_MASTER_DRAINING;
    if (master->shm != NULL)
        moon_shm_set32(&master->shm->node_state, MOON_NODE_DRAINING);
    moon_reload_abort(master);
    uint64_t delay =
        master->current != NULL ? master->current->config->drain_delay_ms : 0;
    master->drain_at_ms = moon_clock_ms() + delay;
    if (delay == 0)
        send_drain(master);
}

static void drain_tick(struct moon_master *master)
{
    uint64_t now = moon_clock_ms();
    if (!master->drain_sent && now >= master->drain_at_ms) {
        send_drain(master);
    } else if (master->drain_sent && now >= master->drain_end_ms) {
        moon_log(MOON_LOG_WARN, "workers did not end in time: killing them");
        master->drain_end_ms = UINT64_MAX;
        moon_supervise_kill_all(master);
    }
}

static void exit_at_once(struct moon_master *master, const char *namez)
{
    moon_log(MOON_LOG_WARN, "%s again: exiting at once", namez);
    master->exit_code = 1;
    master->drain_sent = true;
    master->drain_end_ms = UINT64_MAX;
    moon_supervise_kill_all(master);
    moon_probe_kill(&master->reload.probe);
}

/* ---- signals ---- */

static void reap(struct moon_master *master)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!moon_supervise_reaped(master, pid, status) &&
            !moon_probe_reaped(&master->reload.probe, pid, status) &&
            !moon_admin_reaped(master, pid, status))
            moon_log(MOON_LOG_DEBUG, "reaped foreign pid %d", (int)pid);
    }
}

static void reopen_logs(struct moon_master *master)
{
    moon_log(MOON_LOG_INFO, "SIGHUP: reopen log files");
    if (moon_log_reopen() != MOON_OK)
        moon_log(MOON_LOG_ERROR, "cannot open the log file again");
    for (uint32_t i = 0; i < master->place_count; i++)
        if (master->places[i].child != NULL)
            (void)moon_supervise_send(master->places[i].child,
                                      MOON_CONTROL_REOPEN_LOGS, 0);
}

/* The first one drains, a second one means it. Some send each signal twice, to
 * the process and to its group (timeout, terminals under sudo), so one that
 * comes at once is still the first. */
static void end_by_signal(struct moon_master *master, const char *namez)
{
    if (master->state != MOON_MASTER_DRAINING) {
        master->end_signal_ms = moon_clock_ms();
        moon_master_drain(master, namez);
    } else if (moon_clock_ms() - master->end_signal_ms >= SAME_SIGNAL_MS) {
        exit_at_once(master, namez);
    }
}

static void handle_signal(struct moon_master *master, int sig)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(sig));
    switch (sig) {
    case SIGCHLD:
        reap(master);
        break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        end_by_signal(master, name);
        break;
    case SIGUSR1:
        moon_log(MOON_LOG_INFO, "SIGUSR1: reload scripts");
        moon_reload_request(master, MOON_RELOAD_DISK, NULL, NULL);
        break;
    case SIGUSR2:
        moon_log(MOON_LOG_WARN, "SIGUSR2: taking over by a new binary comes "
                                "with a later version; nothing done");
        break;
    case SIGHUP:
        reopen_logs(master);
        break;
    default:
        break;
    }
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct moon_master *master = poll->data;
    struct signalfd_siginfo info;
    while (read(master->signal_fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info))
        handle_signal(master, (int)info.ssi_signo);
}

static void on_tick(uv_timer_t *timer)
{
    struct moon_master *master = timer->data;
    /* A SIGCHLD that was merged with another one. */
    reap(master);
    moon_watch_tick(master);
    moon_supervise_tick(master);
    moon_reload_tick(master);
    moon_reload_trial_tick(master);
    moon_admin_tick(master);
    if (master->shm != NULL)
        moon_recent_tick(&master->recent, master->shm, moon_clock_ms());
    if (master->state == MOON_MASTER_DRAINING)
        drain_tick(master);
}

/* ---- run ---- */

static bool start(struct moon_master *master)
{
    sigset_t set;
    moon_process_signal_set(&set);
    master->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (master->signal_fd < 0 || uv_loop_init(&master->loop) != 0)
        return false;
    master->signals.data = master->tick.data = master;
    if (uv_poll_init(&master->loop, &master->signals, master->signal_fd) != 0)
        return false;
    (void)uv_poll_start(&master->signals, UV_READABLE, on_signal);
    (void)uv_timer_init(&master->loop, &master->tick);
    (void)uv_timer_start(&master->tick, on_tick, MOON_TICK_MS, MOON_TICK_MS);
    return true;
}

int moon_node_run(const struct moon_node_options *options)
{
    static struct moon_master master; /* found by leak checkers in children */
    moon_process_block_signals();
    moon_process_raise_descriptors();
    master = (struct moon_master){.options = options,
                                  .pid_fd = -1,
                                  .keep_fd = -1,
                                  .shm_fd = -1,
                                  .region_fd = -1};
    master.broken.facts_fd = -1;
    master.started_ms = moon_clock_ms();
    master.started_at = moon_clock_wall();
    struct moon_buf error = {0};
    if (moon_app_paths_init(&master.paths, options, &error) != MOON_OK) {
        moon_log(MOON_LOG_ERROR, "cannot start: %.*s",
                 MOON_STR_ARG(moon_buf_str(&error)));
        moon_buf_deinit(&error);
        return 1;
    }
    if (!start(&master)) {
        moon_log(MOON_LOG_ERROR, "cannot start: no event loop");
        return 1;
    }
    moon_reload_request(&master, MOON_RELOAD_START, NULL, NULL);
    (void)uv_run(&master.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&master.loop);
    (void)close(master.signal_fd);
    if (master.opened && master.exit_code == 0)
        moon_log(MOON_LOG_INFO, "bye");
    moon_master_close(&master);
    moon_app_paths_deinit(&master.paths);
    return master.exit_code;
}
