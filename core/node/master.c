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
    moon_upgrade_close(master);
    moon_takeover_close(master);
    uv_close((uv_handle_t *)&master->tick, NULL);
    uv_close((uv_handle_t *)&master->signals, NULL);
}

void moon_master_check_end(struct moon_master *master)
{
    if (master->state == MOON_MASTER_DRAINING && master->live_children == 0 &&
        master->reload.phase == MOON_RELOAD_IDLE &&
        !moon_admin_is_busy(master) && !moon_upgrade_is_busy(master) &&
        (!moon_takeover_is_shared(master) || master->at_once))
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
    moon_master_hide_listeners(master);
    uint32_t shared = moon_master_shared_sockets(master);
    for (uint32_t i = 0; i < master->place_count; i++)
        if (master->places[i].child != NULL)
            moon_supervise_drain(master->places[i].child, shared);
    /* The workers have their own descriptors of the same sockets. */
    moon_master_close_listeners(master);
    moon_master_check_end(master);
}

static void begin_drain(struct moon_master *master, uint64_t delay_ms)
{
    master->state = MOON_MASTER_DRAINING;
    moon_reload_abort(master);
    master->drain_at_ms = moon_clock_ms() + delay_ms;
    if (delay_ms == 0)
        send_drain(master);
}

void moon_master_drain(struct moon_master *master, const char *whyz)
{
    if (master->state == MOON_MASTER_DRAINING)
        return;
    if (whyz != NULL)
        moon_log(MOON_LOG_INFO, "%s: finishing what is in flight, then exit",
                 whyz);
    if (moon_upgrade_interrupt(master))
        return;
    if (master->shm != NULL)
        moon_shm_set32(&moon_master_side(master)->node_state,
                       MOON_NODE_DRAINING);
    begin_drain(master, master->current != NULL
                            ? master->current->config->drain_delay_ms
                            : 0);
    moon_master_tell_stopping(master);
}

void moon_master_retire(struct moon_master *master)
{
    /* The node is as ready as before, so there is nothing to wait for. */
    begin_drain(master, 0);
}

static void drain_tick(struct moon_master *master)
{
    uint64_t now = moon_clock_ms();
    if (!master->drain_sent && now >= master->drain_at_ms) {
        send_drain(master);
    } else if (master->drain_sent && now >= master->drain_end_ms) {
        if (master->live_children > 0)
            moon_log(MOON_LOG_WARN,
                     "workers did not end in time: killing them");
        master->drain_end_ms = UINT64_MAX;
        master->at_once = true;
        moon_supervise_kill_all(master);
        moon_master_check_end(master);
    }
}

static void exit_at_once(struct moon_master *master, const char *namez)
{
    moon_log(MOON_LOG_WARN, "%s again: exiting at once", namez);
    master->exit_code = 1;
    master->drain_sent = master->at_once = true;
    master->drain_end_ms = UINT64_MAX;
    moon_supervise_kill_all(master);
    moon_probe_kill(&master->reload.probe);
    moon_master_check_end(master);
}

/* ---- signals ---- */

static void reap(struct moon_master *master)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!moon_supervise_reaped(master, pid, status) &&
            !moon_probe_reaped(&master->reload.probe, pid, status) &&
            !moon_admin_reaped(master, pid, status) &&
            !moon_upgrade_reaped(master, pid, status))
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
    } else if (master->end_signal_ms == 0 &&
               master->upgrade.phase == MOON_UPGRADE_OVER) {
        master->end_signal_ms = moon_clock_ms();
        moon_log(MOON_LOG_INFO,
                 "%s: pid %d serves now; this one finishes and "
                 "exits already",
                 namez, (int)master->upgrade.main);
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
        moon_upgrade_request(master);
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
    moon_upgrade_tick(master);
    moon_takeover_tick(master);
    moon_master_notify_tick(master);
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
    return moon_takeover_start(master);
}

/* From the environment and the command line. */
static bool prepare(struct moon_master *master, char **argv,
                    struct moon_buf *error)
{
    moon_upgrade_init(master, argv);
    if (!moon_takeover_init(master, error))
        return false;
    moon_notify_init(&master->notify, master->takeover.active);
    return moon_master_take_given(master, error) &&
           moon_app_paths_init(&master->paths, master->options, error) ==
               MOON_OK;
}

int moon_node_run(const struct moon_node_options *options, char **argv)
{
    static struct moon_master master; /* found by leak checkers in children */
    moon_process_block_signals();
    moon_process_raise_descriptors();
    moon_process_prepare_loops();
    master = (struct moon_master){.options = options,
                                  .pid_fd = -1,
                                  .keep_fd = -1,
                                  .shm_fd = -1,
                                  .region_fd = -1};
    master.broken.facts_fd = -1;
    master.started_ms = moon_clock_ms();
    master.started_at = moon_clock_wall();
    struct moon_buf error = {0};
    bool ok = prepare(&master, argv, &error);
    if (ok && !start(&master)) {
        moon_buf_addz(&error, "no event loop");
        ok = false;
    }
    if (!ok) {
        if (error.len == 0)
            moon_log(MOON_LOG_ERROR, "cannot start: out of memory");
        else
            moon_log(MOON_LOG_ERROR, "cannot start: %.*s",
                     MOON_STR_ARG(moon_buf_str(&error)));
        moon_takeover_failed(&master, moon_buf_str(&error));
        moon_buf_deinit(&error);
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
