/* The reload transaction: probe, then all workers build and vote, then commit
 * or drop. Starting is the same without votes: the workers are forked with the
 * new release and must all come up.
 *
 * Who votes: the workers that serve when the probe is done. One that is killed
 * before it has voted abstains, one that crashes votes no. Whoever comes up on
 * the old code while or after a vote is brought up to the new one afterwards
 * ("catching up"). A worker that is forked after the commit starts on it. */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/keep.h"
#include "node/process.h"
#include "node/reload_internal.h"
#include "state/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A probe that loaded in its time was alone; workers build side by side, at
 * low priority, under load. */
enum { VOTE_FACTOR = 3, VOTE_MIN_MS = 15000, COMMIT_WAIT_MS = 10000 };
enum { START_FAILURES_MAX = 3 };

static uint64_t vote_ms(const struct moon_release *release)
{
    uint64_t ms = release->config->load_timeout_ms * VOTE_FACTOR;
    return ms > VOTE_MIN_MS ? ms : VOTE_MIN_MS;
}

static bool is_start(const struct moon_reload *reload)
{
    return reload->kind == MOON_RELOAD_START ||
           reload->kind == MOON_RELOAD_FALLBACK ||
           reload->kind == MOON_RELOAD_BROKEN;
}

/* ---- the end ---- */

static void describe_success(struct moon_master *master, struct moon_buf *text)
{
    const struct moon_release *release = master->current;
    uint32_t live = moon_supervise_ready(master, release->generation);
    moon_buf_printf(text, "generation %llu live on %u worker%s (%u route%s)",
                    (unsigned long long)release->generation, live,
                    live == 1 ? "" : "s", release->routes,
                    release->routes == 1 ? "" : "s");
    if (live < master->place_count)
        moon_buf_printf(text, "; %u more to come up",
                        master->place_count - live);
}

static void end(struct moon_master *master, bool ok, struct moon_str text)
{
    struct moon_reload *reload = &master->reload;
    bool start = is_start(reload);
    reload->phase = MOON_RELOAD_IDLE;
    reload->deadline_ms = 0;
    moon_release_unref(reload->release);
    reload->release = NULL;
    free(reload->last_text);
    reload->last_text = text.len > 0 ? strndup(text.ptr, text.len) : NULL;
    reload->last_ok = ok;
    reload->has_last = true;
    reload->last_at = moon_clock_wall();
    reload->last_took_ms = moon_clock_ms() - reload->started_ms;
    if (!start && ok)
        moon_shm_add(reload->kind == MOON_RELOAD_ROLLBACK
                         ? &master->shm->rollbacks
                         : &master->shm->reloads,
                     1);
    else if (!start)
        moon_shm_add(&master->shm->reloads_failed, 1);
    struct moon_reload_waiter *waiter = reload->waiters;
    reload->waiters = NULL;
    while (waiter != NULL) {
        struct moon_reload_waiter *next = waiter->next;
        waiter->done(waiter->ctx, ok, text);
        free(waiter);
        waiter = next;
    }
    moon_master_tell_ready(master);
    moon_reload_next(master);
}

/* --dev: the workers are up, and show the error. */
static void succeed_broken(struct moon_master *master)
{
    master->state = MOON_MASTER_RUNNING;
    moon_log(MOON_LOG_WARN,
             "every request is answered with this error until a version is "
             "saved that loads");
    end(master, false, moon_strz(master->broken.whyz));
}

/* --dev: where to look. */
static void say_where(const struct moon_master *master)
{
    const struct moon_address *address = &master->listeners[0].address;
    if (master->options->dev && master->listener_count > 0 &&
        address->pathz[0] == '\0')
        moon_log(MOON_LOG_INFO,
                 "open http://%s/ ; what is saved is served at once, Ctrl-C "
                 "ends",
                 address->textz);
}

static void succeed(struct moon_master *master)
{
    struct moon_buf text = {0};
    if (master->reload.kind == MOON_RELOAD_BROKEN) {
        succeed_broken(master);
        return;
    }
    describe_success(master, &text);
    bool start = moon_shm_get32(&moon_master_side(master)->node_state) ==
                 MOON_NODE_STARTING;
    if (start) {
        master->state = MOON_MASTER_RUNNING;
        moon_shm_set32(&moon_master_side(master)->node_state, MOON_NODE_READY);
        moon_supervise_release(master);
    }
    moon_log(MOON_LOG_INFO, "%s%.*s", start ? "ready: " : "",
             MOON_STR_ARG(moon_buf_str(&text)));
    if (start)
        say_where(master);
    moon_reload_trial_begin(master, master->reload.kind == MOON_RELOAD_DISK);
    end(master, true, moon_buf_str(&text));
    moon_buf_deinit(&text);
}

static void abort_keep(struct moon_master *master)
{
    if (master->keep_fd >= 0)
        moon_keep_abort(master->keep_fd, getpid());
}

/* What was forked with the new release goes; its deaths are our doing and do
 * not count against the next attempt. */
static void give_up_workers(struct moon_master *master)
{
    for (uint32_t i = 0; i < master->place_count; i++) {
        master->places[i].failures = 0;
        master->places[i].start_at_ms = 0;
        if (master->places[i].child != NULL)
            master->places[i].child->state = MOON_CHILD_DRAINING;
    }
    moon_supervise_kill_all(master);
    moon_release_unref(master->current);
    master->current = NULL;
}

/* Nothing serves yet: fall back, or give up. */
static void fail_start(struct moon_master *master, struct moon_str why)
{
    bool was_start = master->reload.kind == MOON_RELOAD_START;
    master->reload.phase = MOON_RELOAD_IDLE;
    moon_release_unref(master->reload.release);
    master->reload.release = NULL;
    if (was_start && (moon_reload_try_fallback(master, why) ||
                      moon_dev_broken_start(master, why)))
        return;
    moon_log(MOON_LOG_ERROR, "cannot start: %.*s", MOON_STR_ARG(why));
    moon_takeover_failed(master, why);
    master->exit_code = 1;
    moon_master_drain(master, NULL);
}

static void fail(struct moon_master *master, struct moon_str why)
{
    struct moon_reload *reload = &master->reload;
    abort_keep(master);
    if (is_start(reload)) {
        fail_start(master, why);
        return;
    }
    /* If more was saved meanwhile, that may mend it at once. */
    if (master->options->dev && !reload->queued)
        moon_dev_broken_set(master, why);
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        if (child == NULL || child->prepare_txn != reload->txn)
            continue;
        child->prepare_txn = 0;
        (void)moon_supervise_send(child, MOON_CONTROL_DROP, reload->txn);
    }
    if (master->current->generation == 0)
        moon_log(MOON_LOG_ERROR, "reload failed: %.*s", MOON_STR_ARG(why));
    else
        moon_log(MOON_LOG_ERROR, "%s failed, generation %llu stays: %.*s",
                 reload->kind == MOON_RELOAD_ROLLBACK ? "rollback" : "reload",
                 (unsigned long long)master->current->generation,
                 MOON_STR_ARG(why));
    end(master, false, why);
}

/* ---- commit ---- */

static void note_generation(struct moon_master *master)
{
    moon_shm_set(&moon_master_side(master)->generation,
                 master->current->generation);
    moon_metrics_commit(master->metrics, master->current->generation);
}

/* The new code is on disk before anybody runs it. */
static void keep_committed(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    if (reload->kind == MOON_RELOAD_FALLBACK ||
        reload->kind == MOON_RELOAD_BROKEN || master->keep_fd < 0)
        return;
    if (reload->kind == MOON_RELOAD_ROLLBACK) {
        moon_keep_drop(master->keep_fd, 1);
        return;
    }
    if (!reload->probe.kept ||
        moon_reload_is_newest_kept(master, reload->release)) {
        abort_keep(master);
        return;
    }
    enum moon_err err = moon_keep_claim(master->keep_fd, master->paths.appz);
    if (err == MOON_OK)
        err = moon_keep_commit(master->keep_fd, getpid());
    if (err != MOON_OK)
        moon_log(MOON_LOG_WARN, "the snapshot cannot be kept: %s",
                 moon_err_text(err));
}

/* Only what all workers run is worth falling back on. */
static void complete_start(struct moon_master *master, bool whole)
{
    if (whole)
        keep_committed(master);
    succeed(master);
}

static void try_complete_start(struct moon_master *master, bool whole)
{
    if (!master->takeover.pending) {
        complete_start(master, whole);
        return;
    }
    struct moon_buf text = {0};
    describe_success(master, &text);
    moon_takeover_announce(master, whole, moon_buf_str(&text));
    moon_buf_deinit(&text);
}

void moon_reload_start_granted(struct moon_master *master)
{
    complete_start(master, master->takeover.whole);
}

static void check_committed(struct moon_master *master)
{
    if (moon_supervise_ready(master, master->current->generation) !=
        master->place_count)
        return;
    if (is_start(&master->reload))
        try_complete_start(master, true);
    else
        succeed(master);
}

static void warn_restart_keys(struct moon_master *master)
{
    struct moon_buf keys = {0};
    if (moon_config_restart_keys(master->fixed->config,
                                 master->reload.release->config, &keys) > 0)
        moon_log(MOON_LOG_WARN,
                 "changed in config.lua, but a restart is needed for it: %.*s",
                 MOON_STR_ARG(moon_buf_str(&keys)));
    moon_buf_deinit(&keys);
}

/* Serving, but still on older code: they are asked once more. */
static void catch_up(struct moon_child *child)
{
    struct moon_master *master = child->master;
    if (child->state != MOON_CHILD_READY ||
        child->generation == master->current->generation ||
        child->prepare_txn != 0)
        return;
    moon_supervise_prepare(child, master->current, ++master->reload.txn);
}

static void commit(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    uint64_t txn = reload->txn;
    keep_committed(master);
    warn_restart_keys(master);
    moon_release_unref(master->current);
    master->current = moon_release_ref(reload->release);
    note_generation(master);
    moon_dev_broken_clear(master);
    if (reload->kind == MOON_RELOAD_DISK) {
        free(master->fallback_why);
        master->fallback_why = NULL;
    }
    (void)moon_layers_apply_log(master->current->config, master->current->dirz,
                                master->options->dev, NULL);
    reload->phase = MOON_RELOAD_COMMITTING;
    reload->deadline_ms = moon_clock_ms() + COMMIT_WAIT_MS;
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        if (child == NULL) {
            /* Died on the old code, maybe because of it: no more waiting. */
            master->places[i].failures = 0;
            moon_supervise_spawn(master, i);
        } else if (child->prepare_txn == txn && child->voted) {
            (void)moon_supervise_send(child, MOON_CONTROL_COMMIT, txn);
        } else {
            catch_up(child);
        }
    }
    check_committed(master);
}

/* ---- votes ---- */

static void check_votes(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    if (reload->phase != MOON_RELOAD_VOTING)
        return;
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && child->prepare_txn == reload->txn && !child->voted)
            return;
    }
    commit(master);
}

static void ask_workers(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    reload->phase = MOON_RELOAD_VOTING;
    reload->deadline_ms = moon_clock_ms() + vote_ms(reload->release);
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        if (reload->phase == MOON_RELOAD_VOTING && child != NULL &&
            child->state == MOON_CHILD_READY)
            moon_supervise_prepare(child, reload->release, reload->txn);
    }
    /* With nobody serving, the probe's word is enough. */
    check_votes(master);
}

static void start_workers(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    moon_release_unref(master->current);
    master->current = moon_release_ref(reload->release);
    note_generation(master);
    (void)moon_layers_apply_log(master->current->config, master->current->dirz,
                                master->options->dev, NULL);
    reload->phase = MOON_RELOAD_COMMITTING;
    reload->deadline_ms = moon_clock_ms() + vote_ms(reload->release);
    for (uint32_t i = 0; i < master->place_count; i++)
        if (master->places[i].child == NULL)
            moon_supervise_spawn(master, i);
}

void moon_reload_start_broken(struct moon_master *master)
{
    master->reload.kind = MOON_RELOAD_BROKEN;
    start_workers(master);
}

/* ---- the probe ---- */

static void on_probe_done(void *ctx, struct moon_probe *probe, bool ok)
{
    struct moon_master *master = ctx;
    struct moon_reload *reload = &master->reload;
    if (master->state == MOON_MASTER_DRAINING) {
        reload->phase = MOON_RELOAD_IDLE;
        moon_release_unref(moon_probe_take_release(probe));
        moon_master_check_end(master);
        return;
    }
    struct moon_str text = moon_buf_str(&probe->text);
    if (!ok) {
        moon_release_unref(moon_probe_take_release(probe));
        fail(master, text);
        return;
    }
    for (struct moon_str line; text.len > 0;) {
        line = moon_str_cut(text, '\n', &text);
        moon_log(MOON_LOG_WARN, "%.*s", MOON_STR_ARG(line));
    }
    reload->release = moon_probe_take_release(probe);
    if (is_start(reload))
        start_workers(master);
    else
        ask_workers(master);
}

static bool on_probe_config(void *ctx, struct moon_probe *probe)
{
    struct moon_master *master = ctx;
    if (master->opened)
        return true;
    moon_buf_clear(&probe->text);
    return moon_master_open(master, probe->release, &probe->text);
}

void moon_reload_begin(struct moon_master *master, enum moon_reload_kind kind)
{
    struct moon_reload *reload = &master->reload;
    reload->kind = kind;
    if (!is_start(reload))
        moon_notify_reloading(&master->notify);
    reload->phase = MOON_RELOAD_PROBING;
    reload->txn++;
    reload->deadline_ms = 0; /* the probe has its own */
    reload->started_ms = moon_clock_ms();
    struct moon_probe_options options = {
        .mode = MOON_PROBE_LOAD,
        .node = master->options,
        .paths = &master->paths,
        .generation = 1 + (master->current != NULL
                               ? master->current->generation
                               : master->takeover.inventory.generation),
        .kept_fd = -1,
        .kept_dirz = master->paths.dirz,
        .serving = master->fixed,
        .namez = master->namez,
    };
    enum moon_err err = MOON_OK;
    if (kind == MOON_RELOAD_ROLLBACK || kind == MOON_RELOAD_FALLBACK)
        err =
            moon_keep_get(master->keep_fd, kind == MOON_RELOAD_ROLLBACK ? 1 : 0,
                          &options.kept_fd);
    if (err != MOON_OK) {
        fail(master, MOON_STR("there is no older version to go back to"));
        return;
    }
    reload->probe.ctx = master;
    reload->probe.on_config = on_probe_config;
    reload->probe.on_done = on_probe_done;
    /* The configuration in force says how long; at start, the default and
     * what the command line says. */
    err = moon_probe_start(&reload->probe, &master->loop, &options,
                           moon_reload_load_timeout(master));
    if (options.kept_fd >= 0)
        (void)close(options.kept_fd);
    if (err != MOON_OK)
        fail(master, moon_strz(moon_err_text(err)));
}

/* ---- what workers do meanwhile ---- */

void moon_reload_child_ready(struct moon_child *child)
{
    struct moon_master *master = child->master;
    if (master->state == MOON_MASTER_DRAINING) {
        moon_supervise_drain(child, moon_master_shared_sockets(master));
        return;
    }
    moon_dev_broken_tell(child);
    if (master->reload.phase != MOON_RELOAD_VOTING)
        catch_up(child);
    if (master->reload.phase == MOON_RELOAD_COMMITTING)
        check_committed(master);
}

void moon_reload_child_prepared(struct moon_child *child, uint64_t txn)
{
    struct moon_master *master = child->master;
    if (txn == 0 || txn != child->prepare_txn)
        return; /* of a transaction that is over */
    child->voted = true;
    if (master->reload.phase == MOON_RELOAD_VOTING && txn == master->reload.txn)
        check_votes(master);
    else
        (void)moon_supervise_send(child, MOON_CONTROL_COMMIT, txn);
}

void moon_reload_child_failed(struct moon_child *child, uint64_t txn,
                              struct moon_str text)
{
    struct moon_master *master = child->master;
    struct moon_buf why = {0};
    moon_buf_printf(&why, "worker %u: %.*s", child->place + 1,
                    MOON_STR_ARG(text));
    if (txn == 0 && is_start(&master->reload) &&
        master->reload.phase == MOON_RELOAD_COMMITTING) {
        moon_reload_note_start_error(master, moon_buf_str(&why));
    } else if (txn != 0 && txn == child->prepare_txn) {
        child->prepare_txn = 0;
        if (master->reload.phase == MOON_RELOAD_VOTING &&
            txn == master->reload.txn) {
            fail(master, moon_buf_str(&why));
        } else if (master->state == MOON_MASTER_RUNNING) {
            /* It cannot catch up in place; a new process may. */
            moon_log(MOON_LOG_ERROR, "%.*s: replacing it",
                     MOON_STR_ARG(moon_buf_str(&why)));
            moon_supervise_drain(child, UINT32_MAX); /* it alone */
        }
    }
    moon_buf_deinit(&why);
}

void moon_reload_child_committed(struct moon_child *child)
{
    struct moon_master *master = child->master;
    child->prepare_txn = 0;
    child->generation = master->current->generation;
    moon_dev_broken_tell(child);
    if (master->reload.phase == MOON_RELOAD_COMMITTING)
        check_committed(master);
}

void moon_reload_child_died(struct moon_child *child, int status)
{
    struct moon_master *master = child->master;
    struct moon_reload *reload = &master->reload;
    if (reload->phase == MOON_RELOAD_VOTING &&
        child->prepare_txn == reload->txn) {
        if (!child->voted && moon_process_crashed(status)) {
            char how[64], text[160];
            moon_process_status_text(status, how, sizeof(how));
            (void)snprintf(text, sizeof(text),
                           "worker %u crashed while loading (%s)",
                           child->place + 1, how);
            fail(master, moon_strz(text));
        } else {
            check_votes(master);
        }
    } else if (reload->phase == MOON_RELOAD_COMMITTING && is_start(reload) &&
               master->places[child->place].failures >= START_FAILURES_MAX &&
               moon_supervise_ready(master, 0) == 0) {
        give_up_workers(master);
        struct moon_str why = moon_reload_start_error(master);
        fail_start(master, why.len > 0 ? why
                                       : MOON_STR("the workers keep dying "
                                                  "before they are ready"));
    }
}

/* Nobody answers for a worker that has not voted. */
static void fail_late(struct moon_master *master)
{
    char text[160];
    struct moon_buf late = {0};
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && child->prepare_txn == master->reload.txn &&
            !child->voted)
            moon_buf_printf(&late, "%s%u", late.len > 0 ? ", " : "", i + 1);
    }
    (void)snprintf(text, sizeof(text), "not loaded in time by worker %.*s",
                   MOON_STR_ARG(moon_buf_str(&late)));
    moon_buf_deinit(&late);
    fail(master, moon_strz(text));
}

void moon_reload_tick(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    if (reload->deadline_ms == 0 || moon_clock_ms() < reload->deadline_ms)
        return;
    reload->deadline_ms = 0;
    if (reload->phase == MOON_RELOAD_VOTING)
        fail_late(master);
    else if (reload->phase == MOON_RELOAD_COMMITTING && !is_start(reload))
        succeed(master); /* decided; whoever is late comes up on it */
    else if (reload->phase == MOON_RELOAD_COMMITTING &&
             moon_supervise_ready(master, 0) > 0)
        try_complete_start(master, false);
    else if (reload->phase == MOON_RELOAD_COMMITTING) {
        give_up_workers(master);
        fail_start(master, MOON_STR("no worker came up in time"));
    }
}
