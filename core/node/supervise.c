/* The workers as the master sees them: starting, hearing, replacing them. */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/process.h"
#include "node/worker.h"
#include "state/client_counts.h"
#include "state/leases.h"
#include "state/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 5000 };

/* ---- the child's side of the fork ---- */

MOON_NORETURN static void become_worker(struct moon_master *master,
                                        uint32_t place, int control_fd)
{
    static int fds[MOON_LISTEN_MAX];
    static bool tcp[MOON_LISTEN_MAX];
    static struct moon_worker_options options;
    for (uint32_t i = 0; i < master->listener_count; i++) {
        fds[i] = master->listeners[i].fd;
        tcp[i] = master->listeners[i].address.pathz[0] == '\0';
    }
    /* Their descriptors are closed here; the numbers may be used anew. */
    master->current->archive_fd = master->current->config_fd = -1;
    options = (struct moon_worker_options){
        .control_fd = control_fd,
        .listen_fds = fds,
        .listen_tcp = tcp,
        .listen_count = master->listener_count,
        .shm = master->shm,
        .region = master->region,
        .side = master->side,
        .slot = master->first_slot + place,
        .place = place,
        .worker_count = master->place_count,
        .hold = master->takeover.pending,
        .release = master->current,
        .fixed = master->fixed->config,
        .app_filez = master->paths.filez,
        .nodez = master->namez,
        .memory_dirz = master->memory_dir,
        .dev = master->options->dev,
        .broken_whyz = master->broken.whyz,
        .broken_facts_fd = master->broken.facts_fd,
    };
    moon_worker_main(&options);
}

/* ---- messages ---- */

static void release(struct moon_child *child)
{
    child->holds = false;
    (void)moon_supervise_send(child, MOON_CONTROL_ACCEPT, 0);
}

/* What an application should know that wants to be back soon. */
static void say_replaced(const struct moon_child *child, uint32_t load_us)
{
    struct moon_place *p = &child->master->places[child->place];
    if (p->empty_ns != 0)
        moon_log(MOON_LOG_INFO,
                 "worker %u (pid %d) serves, %.1f ms after the last one died; "
                 "loading the application took %.1f",
                 child->place + 1, (int)child->pid,
                 (double)(moon_clock_ns() - p->empty_ns) / 1e6,
                 (double)load_us / 1e3);
    p->empty_ns = 0;
}

static void handle(struct moon_child *child, struct moon_control_msg *msg)
{
    struct moon_master *master = child->master;
    switch ((enum moon_control_type)msg->type) {
    case MOON_CONTROL_READY:
        if (child->state == MOON_CHILD_STARTING)
            child->state = MOON_CHILD_READY;
        child->generation = msg->generation;
        master->places[child->place].failures = 0;
        say_replaced(child, msg->count);
        if (child->holds && !master->takeover.pending)
            release(child);
        moon_reload_child_ready(child);
        break;
    case MOON_CONTROL_PREPARED:
        moon_reload_child_prepared(child, msg->txn);
        break;
    case MOON_CONTROL_FAILED:
        moon_reload_child_failed(child, msg->txn, msg->text);
        break;
    case MOON_CONTROL_COMMITTED:
        moon_reload_child_committed(child);
        break;
    case MOON_CONTROL_RELOAD:
        moon_log(MOON_LOG_INFO, "SIGUSR1 (from worker %u): reload scripts",
                 child->place + 1);
        moon_reload_request(master, MOON_RELOAD_DISK, NULL, NULL);
        break;
    case MOON_CONTROL_REQUESTS_TEXT:
        moon_admin_requests_text(master, child->place, msg->txn, msg->text);
        break;
    default: /* a worker runs foreign code: nothing it sends is believed */
        moon_log(MOON_LOG_WARN, "message %u of worker %u makes no sense",
                 msg->type, child->place + 1);
        break;
    }
}

static void free_child(uv_handle_t *handle)
{
    struct moon_child *child = handle->data;
    struct moon_master *master = child->master;
    (void)close(child->fd);
    master->live_children--;
    free(child);
    moon_master_check_end(master);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct moon_child *child = poll->data;
    static struct moon_control_buf buf; /* the master has one thread */
    while (child->fd_open) {
        struct moon_control_msg msg;
        enum moon_err err = status < 0
                                ? MOON_ECLOSED
                                : moon_control_receive(child->fd, &msg, &buf);
        if (err == MOON_EAGAIN)
            return;
        if (err != MOON_OK) {
            /* One that cannot be talked to would never get new code. */
            if (err != MOON_ECLOSED) {
                moon_log(MOON_LOG_ERROR,
                         "worker %u is killed: it sent what is no message (%s)",
                         child->place + 1, moon_err_text(err));
                (void)kill(child->pid, SIGKILL);
            }
            child->fd_open = false;
            (void)uv_poll_stop(poll);
            return;
        }
        handle(child, &msg);
        moon_control_msg_close(&msg);
    }
}

/* ---- starting ---- */

static void retry_later(struct moon_master *master, uint32_t place)
{
    struct moon_place *p = &master->places[place];
    uint64_t delay = BACKOFF_FIRST_MS;
    for (uint32_t i = 1; i < p->failures && delay < BACKOFF_MAX_MS; i++)
        delay *= 2;
    if (delay > BACKOFF_MAX_MS)
        delay = BACKOFF_MAX_MS;
    p->start_at_ms = moon_clock_ms() + delay;
    moon_log(MOON_LOG_WARN, "worker %u: next try in %llu ms", place + 1,
             (unsigned long long)delay);
}

static struct moon_child *adopt(struct moon_master *master, uint32_t place,
                                pid_t pid, int fd)
{
    struct moon_child *child = calloc(1, sizeof(*child));
    if (child == NULL)
        return NULL;
    child->master = master;
    child->place = place;
    child->pid = pid;
    child->fd = fd;
    child->fd_open = true;
    child->holds = master->takeover.pending;
    child->poll.data = child;
    if (uv_poll_init(&master->loop, &child->poll, fd) != 0) {
        free(child);
        return NULL;
    }
    master->live_children++;
    if (uv_poll_start(&child->poll, UV_READABLE, on_poll) != 0)
        child->fd_open = false;
    return child;
}

void moon_supervise_spawn(struct moon_master *master, uint32_t place)
{
    struct moon_place *p = &master->places[place];
    int fds[2];
    p->start_at_ms = 0;
    if (moon_control_pair(fds) != MOON_OK) {
        p->failures++;
        retry_later(master, place);
        return;
    }
    moon_shm_reset_slot(moon_master_slot(master, place));
    int keep[MOON_LISTEN_MAX + 2];
    size_t keep_count = 0;
    keep[keep_count++] = fds[1];
    keep[keep_count++] = master->broken.facts_fd;
    for (uint32_t i = 0; i < master->listener_count; i++)
        keep[keep_count++] = master->listeners[i].fd;
    pid_t pid = moon_process_fork(keep, keep_count);
    if (pid == 0)
        become_worker(master, place, fds[1]);
    int sys = errno;
    (void)close(fds[1]);
    struct moon_child *child =
        pid < 0 ? NULL : adopt(master, place, pid, fds[0]);
    if (child == NULL) {
        moon_log(MOON_LOG_ERROR, "cannot start worker %u: %s", place + 1,
                 pid < 0 ? strerror(sys) : "out of memory");
        (void)close(fds[0]);
        if (pid > 0)
            (void)kill(pid, SIGKILL);
        p->failures++;
        retry_later(master, place);
        return;
    }
    p->child = child;
    moon_log(MOON_LOG_DEBUG, "worker %u is pid %d", place + 1, (int)pid);
}

void moon_supervise_tick(struct moon_master *master)
{
    if (master->state == MOON_MASTER_DRAINING || master->current == NULL)
        return;
    uint64_t now = moon_clock_ms();
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_place *p = &master->places[i];
        if (p->child == NULL && p->start_at_ms != 0 && now >= p->start_at_ms)
            moon_supervise_spawn(master, i);
    }
}

/* ---- ending ---- */

static void log_death(const struct moon_child *child, int status)
{
    char how[64];
    moon_process_status_text(status, how, sizeof(how));
    if (child->state == MOON_CHILD_DRAINING && !moon_process_crashed(status))
        moon_log(MOON_LOG_DEBUG, "worker %u (pid %d) has ended (%s)",
                 child->place + 1, (int)child->pid, how);
    else
        moon_log(MOON_LOG_ERROR, "worker %u (pid %d) died: %s%s",
                 child->place + 1, (int)child->pid, how,
                 child->state == MOON_CHILD_STARTING ? ", before it was ready"
                                                     : "");
}

static enum moon_death death_of(const struct moon_child *child, int status)
{
    if (child->watch.killed)
        return MOON_DEATH_hang;
    if (child->state == MOON_CHILD_STARTING)
        return MOON_DEATH_startup;
    return WIFSIGNALED(status) ? MOON_DEATH_signal : MOON_DEATH_exit;
}

bool moon_supervise_reaped(struct moon_master *master, pid_t pid, int status)
{
    struct moon_child *child = NULL;
    uint32_t place = 0;
    for (; place < master->place_count; place++) {
        child = master->places[place].child;
        if (child != NULL && child->pid == pid)
            break;
    }
    if (place == master->place_count)
        return false;
    struct moon_place *p = &master->places[place];
    if (child->fd_open) /* what it said last */
        on_poll(&child->poll, 0, UV_READABLE);
    child->fd_open = false;
    child->reaped = true;
    if (p->empty_ns == 0)
        p->empty_ns = moon_clock_ns();
    log_death(child, status);
    p->child = NULL;
    moon_shm_reset_slot(moon_master_slot(master, place));
    moon_metrics_end_worker(master->metrics, master->first_slot + place);
    moon_metrics_end_worker(master->node_metrics, master->first_slot + place);
    moon_leases_end_worker(master->region, master->shm->slot_count,
                           master->first_slot + place);
    moon_client_counts_end_worker(master->region, master->shm->slot_count,
                                  master->first_slot + place);
    uv_close((uv_handle_t *)&child->poll, free_child);
    if (master->state == MOON_MASTER_DRAINING)
        return true;
    moon_shm_add(&master->shm->restarts, 1);
    moon_shm_add(&master->shm->deaths[death_of(child, status)], 1);
    bool before_ready = child->state == MOON_CHILD_STARTING;
    bool from_outside = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
                        !child->watch.killed;
    if (before_ready)
        p->failures++;
    /* May decide that there is nothing to run any more, or commit without
     * this worker, and start the next one here itself. */
    moon_reload_child_died(child, status);
    if (master->current == NULL || master->state == MOON_MASTER_DRAINING ||
        p->child != NULL)
        return true;
    /* The first time that somebody else ended it says nothing about the
     * application; the second may be for want of memory. */
    if (before_ready && !(from_outside && p->failures == 1))
        retry_later(master, place);
    else
        moon_supervise_spawn(master, place);
    return true;
}

/* ---- orders ---- */

static enum moon_err send_to(struct moon_child *child,
                             const struct moon_control_msg *msg)
{
    enum moon_err err =
        child->fd_open ? moon_control_send(child->fd, msg) : MOON_ECLOSED;
    if (err != MOON_OK && err != MOON_ECLOSED)
        moon_log(MOON_LOG_ERROR, "cannot reach worker %u: %s", child->place + 1,
                 moon_err_text(err));
    return err;
}

enum moon_err moon_supervise_send(struct moon_child *child,
                                  enum moon_control_type type, uint64_t txn)
{
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, type);
    msg.txn = txn;
    return send_to(child, &msg);
}

void moon_supervise_prepare(struct moon_child *child,
                            struct moon_release *release, uint64_t txn)
{
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_PREPARE);
    msg.txn = txn;
    msg.generation = release->generation;
    msg.text = moon_strz(release->dirz);
    msg.fds[0] = release->archive_fd;
    msg.fds[1] = release->config_fd;
    child->prepare_txn = txn;
    child->voted = false;
    enum moon_err err =
        child->fd_open ? moon_control_send(child->fd, &msg) : MOON_ECLOSED;
    /* A dead one is about to be reaped, and counts as that. */
    if (err != MOON_OK && err != MOON_ECLOSED)
        moon_reload_child_failed(child, txn, moon_strz(moon_err_text(err)));
}

void moon_supervise_drain(struct moon_child *child, uint32_t shared)
{
    if (child->state == MOON_CHILD_DRAINING)
        return;
    child->state = MOON_CHILD_DRAINING;
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_DRAIN);
    msg.count = shared;
    (void)send_to(child, &msg);
}

void moon_supervise_release(struct moon_master *master)
{
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        if (child != NULL && child->state == MOON_CHILD_READY && child->holds)
            release(child);
    }
}

void moon_supervise_kill_all(struct moon_master *master)
{
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && !child->reaped)
            (void)kill(child->pid, SIGKILL);
    }
}

uint32_t moon_supervise_ready(const struct moon_master *master,
                              uint64_t generation)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && child->state == MOON_CHILD_READY &&
            (generation == 0 || child->generation == generation))
            count++;
    }
    return count;
}
