/* The old master's side of an upgrade; see upgrade.h. */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/process.h"
#include "state/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A start may load the code on disk, then kept code, and then on all workers.
 * GRANT: it writes to the disk. ABORT: how long a new master has to end by
 * itself and to remove what it has made; KILLED: and its processes after that,
 * for somebody else may have to reap them. */
enum {
    START_FACTOR = 5,
    START_MIN_MS = 15000,
    GRANT_MS = 30000,
    ABORT_MS = 1000,
    KILLED_MS = 2000,
};

/* ---- failing ---- */

static void remember(struct moon_master *master, struct moon_str why)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    free(upgrade->last_text);
    upgrade->last_text = strndup(why.ptr, why.len);
    upgrade->last_at = moon_clock_wall();
}

static void end_child(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_UPGRADE_ABORT);
    bool understands = upgrade->phase > MOON_UPGRADE_STARTING;
    if (!understands || moon_control_send(upgrade->fd, &msg) != MOON_OK)
        (void)kill(-upgrade->child, SIGKILL);
    upgrade->deadline_ms = moon_clock_ms() + ABORT_MS;
    upgrade->phase = MOON_UPGRADE_ENDING;
}

static void fail(struct moon_master *master, const char *fmt, ...)
    MOON_PRINTF(2, 3);

static void fail(struct moon_master *master, const char *fmt, ...)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    struct moon_buf why = {0};
    va_list args;
    va_start(args, fmt);
    moon_buf_vprintf(&why, fmt, args);
    va_end(args);
    moon_log(MOON_LOG_ERROR, "upgrade failed, version %s serves on: %.*s",
             MOON_VERSION, MOON_STR_ARG(moon_buf_str(&why)));
    remember(master, moon_buf_str(&why));
    moon_buf_deinit(&why);
    moon_shm_add(&master->shm->upgrades_failed, 1);
    if (upgrade->child != 0)
        end_child(master);
    else
        upgrade->phase = MOON_UPGRADE_NONE;
}

/* Its workers' slots; ours are side by side. */
static void clear_slots(struct moon_master *master)
{
    uint32_t end = master->first_slot + master->place_count;
    for (uint32_t i = 0; i < master->shm->slot_count; i++) {
        if (i >= master->first_slot && i < end)
            continue;
        moon_shm_reset_slot(&master->shm->slots[i]);
        moon_metrics_end_worker(master->metrics, i);
        moon_metrics_end_worker(master->node_metrics, i);
    }
}

/* What it may have taken by halves is ours again. */
static void take_back(struct moon_master *master)
{
    struct moon_buf error = {0};
    for (uint32_t i = 0; i < master->listener_count; i++)
        master->listeners[i].passed = false;
    moon_master_share_sockets(master);
    if (master->upgrade.granted && !moon_master_write_pid(master, &error))
        moon_log(MOON_LOG_ERROR, "%.*s", MOON_STR_ARG(moon_buf_str(&error)));
    moon_buf_deinit(&error);
    clear_slots(master);
    moon_metrics_commit(master->metrics, master->current->generation);
}

/* All of it is gone: as if it had never been. */
static void finish_failure(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    upgrade->child = 0;
    upgrade->phase = MOON_UPGRADE_NONE;
    moon_upgrade_close(master);
    take_back(master);
    moon_master_tell_ready(master);
    bool stop = upgrade->stop_after;
    upgrade->stop_after = false;
    if (stop) {
        moon_master_drain(master, "the upgrade has failed");
    } else if (upgrade->reload_after) {
        upgrade->reload_after = false;
        moon_reload_request(master, MOON_RELOAD_DISK, NULL, NULL);
    }
    moon_master_check_end(master);
}

static void end_tick(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    uint64_t now = moon_clock_ms();
    bool late = master->at_once || now >= upgrade->deadline_ms;
    if (late)
        (void)kill(-upgrade->child, SIGKILL);
    /* Not before its workers are gone, too: they write to the shared memory.
     */
    if ((upgrade->reaped && kill(-upgrade->child, 0) < 0 && errno == ESRCH) ||
        (late && now >= upgrade->deadline_ms + KILLED_MS))
        finish_failure(master);
}

bool moon_upgrade_reaped(struct moon_master *master, pid_t pid, int status)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    char how[64];
    if (upgrade->child == 0 || pid != upgrade->child)
        return false;
    upgrade->reaped = true;
    moon_process_status_text(status, how, sizeof(how));
    moon_upgrade_hear(master); /* what it said last */
    if (upgrade->phase == MOON_UPGRADE_OVER) {
        moon_log(MOON_LOG_ERROR, "pid %d, which has taken over, has died: %s",
                 (int)pid, how);
        return true;
    }
    if (upgrade->phase != MOON_UPGRADE_ENDING)
        fail(master, "the new binary ended before it had taken over (%s)", how);
    (void)kill(-pid, SIGKILL); /* what it left behind, in its own group */
    end_tick(master);
    return true;
}

bool moon_upgrade_interrupt(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    upgrade->queued = upgrade->reload_after = false;
    if (upgrade->phase == MOON_UPGRADE_GRANTED) {
        upgrade->stop_after = true;
        return true;
    }
    if (upgrade->phase == MOON_UPGRADE_STARTING ||
        upgrade->phase == MOON_UPGRADE_LOADING)
        fail(master, "the node is told to stop");
    return false;
}

/* ---- handing over ---- */

static void leave(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_UPGRADE_LEFT);
    upgrade->phase = MOON_UPGRADE_OVER;
    upgrade->deadline_ms = 0;
    moon_log(MOON_LOG_INFO,
             "version %s (pid %d) serves now; this one finishes "
             "what is in flight, then exits",
             upgrade->versionz, (int)upgrade->main);
    moon_notify_send(&master->notify, "MAINPID=%d", (int)upgrade->main);
    master->notify.muted = true;
    if (moon_control_send(upgrade->fd, &msg) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "the new master was not told");
    if ((upgrade->taken & MOON_TAKEN_ADMIN) != 0)
        moon_admin_hand_over(master);
    if ((upgrade->taken & MOON_TAKEN_PID_FILE) != 0) {
        (void)close(master->pid_fd);
        master->pid_fd = -1;
    }
    if ((upgrade->taken & MOON_TAKEN_MEMORY) != 0)
        master->memory_dir[0] = '\0';
    if (upgrade->reload_after)
        (void)kill(upgrade->main, SIGUSR1);
    if (upgrade->stop_after)
        (void)kill(upgrade->main, SIGTERM);
    moon_dev_watch_close(master);
    moon_master_retire(master);
}

static void grant(struct moon_master *master, const struct moon_control_msg *in)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_UPGRADE_GRANT);
    moon_log(MOON_LOG_INFO, "version %s (pid %d) is ready: %.*s",
             upgrade->versionz, (int)upgrade->main, MOON_STR_ARG(in->text));
    upgrade->taken = (uint32_t)in->txn;
    for (uint32_t i = 0; i < master->listener_count; i++)
        master->listeners[i].passed = (in->count >> i & 1) != 0;
    upgrade->phase = MOON_UPGRADE_GRANTED;
    upgrade->granted = true;
    upgrade->deadline_ms = moon_clock_ms() + GRANT_MS;
    if (moon_control_send(upgrade->fd, &msg) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "the new master was not told");
}

static uint64_t start_ms(const struct moon_master *master)
{
    uint64_t ms = master->current->config->load_timeout_ms * START_FACTOR;
    return (ms > START_MIN_MS ? ms : START_MIN_MS) + MOON_UPGRADE_MARGIN_MS;
}

static void greet(struct moon_master *master, const struct moon_control_msg *in)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    (void)snprintf(upgrade->versionz, sizeof(upgrade->versionz), "%.*s",
                   MOON_STR_ARG(in->text));
    upgrade->main = (pid_t)in->generation;
    upgrade->phase = MOON_UPGRADE_LOADING;
    upgrade->deadline_ms = moon_clock_ms() + start_ms(master);
}

static void obey(struct moon_master *master, const struct moon_control_msg *msg)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    switch ((enum moon_upgrade_message)msg->type) {
    case MOON_UPGRADE_HELLO:
        if (upgrade->phase == MOON_UPGRADE_STARTING)
            greet(master, msg);
        break;
    case MOON_UPGRADE_READY:
        if (upgrade->phase == MOON_UPGRADE_LOADING)
            grant(master, msg);
        break;
    case MOON_UPGRADE_TAKEN:
        if (upgrade->phase == MOON_UPGRADE_GRANTED)
            leave(master);
        break;
    case MOON_UPGRADE_FAILED:
        if (upgrade->phase == MOON_UPGRADE_STARTING ||
            upgrade->phase == MOON_UPGRADE_LOADING)
            fail(master, "%s%s%.*s",
                 upgrade->versionz[0] != '\0' ? "the new version: " : "",
                 upgrade->versionz[0] != '\0' ? "cannot start: " : "",
                 MOON_STR_ARG(msg->text));
        break;
    default: /* of a version that says more */
        break;
    }
}

void moon_upgrade_hear(struct moon_master *master)
{
    static struct moon_control_buf buf; /* the master has one thread */
    struct moon_upgrade *upgrade = &master->upgrade;
    while (upgrade->polling) {
        struct moon_control_msg msg;
        enum moon_err err = moon_control_receive(upgrade->fd, &msg, &buf);
        if (err == MOON_EAGAIN)
            return;
        if (err != MOON_OK) {
            /* Its death says more. */
            (void)uv_poll_stop(&upgrade->poll);
            return;
        }
        obey(master, &msg);
        moon_control_msg_close(&msg);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    moon_upgrade_hear(poll->data);
}

/* ---- beginning ---- */

static void begin(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    int fds[2];
    if (moon_control_pair(fds) != MOON_OK) {
        fail(master, "no channel: %s", strerror(errno));
        return;
    }
    upgrade->versionz[0] = '\0';
    upgrade->taken = 0;
    upgrade->reaped = upgrade->granted = false;
    upgrade->fd = fds[0];
    upgrade->poll.data = master;
    upgrade->phase = MOON_UPGRADE_STARTING;
    upgrade->started_ms = moon_clock_ms();
    upgrade->deadline_ms = upgrade->started_ms + MOON_HELLO_MS;
    moon_log(MOON_LOG_INFO, "SIGUSR2: upgrade: executing %s", upgrade->pathz);
    upgrade->child = moon_upgrade_spawn(master, fds[1]);
    int sys = errno;
    (void)close(fds[1]);
    if (upgrade->child < 0 ||
        uv_poll_init(&master->loop, &upgrade->poll, upgrade->fd) != 0) {
        if (upgrade->child > 0)
            (void)kill(upgrade->child, SIGKILL);
        upgrade->child = 0;
        (void)close(upgrade->fd);
        upgrade->fd = -1;
        fail(master, "cannot fork: %s", strerror(sys));
        return;
    }
    (void)setpgid(upgrade->child, upgrade->child); /* whoever is first */
    upgrade->main = upgrade->child;
    upgrade->polling = true;
    (void)uv_poll_start(&upgrade->poll, UV_READABLE, on_poll);
    moon_master_share_sockets(master);
}

/* NULL: nothing is in its way. */
static const char *obstacle(const struct moon_master *master)
{
    if (getpid() == 1)
        return "this is process 1, whose end is the container's: start a "
               "container with the new version instead";
    if (master->upgrade.pathz == NULL)
        return "the path of the program was not found when it was started";
    if (master->state == MOON_MASTER_STARTING)
        return "the node is still starting";
    if (master->state == MOON_MASTER_DRAINING)
        return "the node is shutting down";
    if (master->upgrade.phase != MOON_UPGRADE_NONE || master->upgrade.closing)
        return "one is under way";
    if (moon_takeover_is_shared(master))
        return "the version before still finishes what was in flight: try "
               "again when it has ended";
    return NULL;
}

void moon_upgrade_request(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    const char *whyz = obstacle(master);
    upgrade->queued = false;
    if (whyz != NULL) {
        moon_log(MOON_LOG_WARN, "SIGUSR2: no upgrade: %s", whyz);
    } else if (master->reload.phase != MOON_RELOAD_IDLE) {
        moon_log(MOON_LOG_INFO,
                 "SIGUSR2: a reload is running: the upgrade follows");
        upgrade->queued = true;
    } else {
        begin(master);
    }
}

void moon_upgrade_tick(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    if (upgrade->phase == MOON_UPGRADE_ENDING) {
        end_tick(master);
        return;
    }
    if (upgrade->phase == MOON_UPGRADE_NONE ||
        upgrade->phase == MOON_UPGRADE_OVER ||
        moon_clock_ms() < upgrade->deadline_ms)
        return;
    if (upgrade->phase == MOON_UPGRADE_STARTING)
        fail(master,
             "%s said nothing for %d s: it is not a Moonshine that can take "
             "over, or it hangs",
             upgrade->pathz, MOON_HELLO_MS / 1000);
    else
        fail(master, "the new binary was not ready in time");
}

bool moon_upgrade_is_busy(const struct moon_master *master)
{
    return master->upgrade.phase != MOON_UPGRADE_NONE &&
           master->upgrade.phase != MOON_UPGRADE_OVER;
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_upgrade *upgrade =
        &((struct moon_master *)handle->data)->upgrade;
    upgrade->closing = false;
    (void)close(upgrade->fd);
    upgrade->fd = -1;
}

void moon_upgrade_close(struct moon_master *master)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    if (!upgrade->polling)
        return;
    upgrade->polling = false;
    upgrade->closing = true;
    uv_close((uv_handle_t *)&upgrade->poll, on_closed);
}
