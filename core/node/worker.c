#include "node/worker_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/tally.h"
#include "node/layers.h"
#include "node/process.h"
#include "node/session_dir.h"
#include "vm/budget.h"
#include "vm/coverage.h"
#include "vm/limit_gate.h"
#include "vm/task.h"
#include "link/pool.h"
#include "state/redis.h"
#include "state/session_stores.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    BEAT_MS = 100,
    TEND_BEATS = 20,
    LIST_BEATS = 10,
    FACTS_MAX = 4 << 20,
    STORE_WAIT_MS = 10000, /* for the session store, until the node is ready */
};

void moon_worker_send(struct moon_worker *worker,
                      const struct moon_control_msg *msg)
{
    if (worker->control_lost)
        return;
    enum moon_err err = moon_control_send(worker->o->control_fd, msg);
    if (err != MOON_OK && err != MOON_ECLOSED)
        moon_log(MOON_LOG_ERROR, "cannot tell the master: %s",
                 moon_err_text(err));
}

static const struct moon_shm_side *side(const struct moon_worker *worker)
{
    return &worker->o->shm->sides[worker->o->side];
}

static void tell(struct moon_worker *worker, enum moon_control_type type,
                 uint64_t txn, struct moon_str text)
{
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, type);
    msg.txn = txn;
    msg.text = text;
    moon_worker_send(worker, &msg);
}

/* ---- generations ---- */

static void use_config(struct moon_worker *worker)
{
    const struct moon_config *config =
        moon_generations_config(worker->generations);
    struct moon_server_config server;
    moon_app_server_config(config, &server);
    moon_server_configure(worker->server, &server);
    moon_app_handler_set_shed_lag(
        worker->handler,
        config->shed_lag_ms == MOON_CONFIG_NONE ? 0 : config->shed_lag_ms);
    (void)moon_layers_apply_log(config, worker->o->release->dirz,
                                worker->o->dev, NULL);
}

/* --dev: every request gets this error; empty: no more. */
static void show_error(struct moon_worker *worker, struct moon_str why,
                       int facts_fd)
{
    struct moon_buf facts = {0};
    if (facts_fd >= 0 &&
        moon_control_read_memfd(facts_fd, FACTS_MAX, &facts) != MOON_OK)
        facts.len = 0;
    moon_app_handler_set_broken(worker->handler, why, moon_buf_str(&facts));
    moon_buf_deinit(&facts);
}

static bool commit(struct moon_worker *worker, uint64_t txn)
{
    if (!moon_generations_commit(worker->generations, txn))
        return false;
    show_error(worker, MOON_STR_NONE, -1);
    use_config(worker);
    moon_shm_set(&worker->slot->generation,
                 moon_generations_current(worker->generations)->number);
    return true;
}

static void start_accepting(struct moon_worker *worker)
{
    if (worker->serving || worker->draining)
        return;
    if (worker->o->broken_whyz != NULL)
        show_error(worker, moon_strz(worker->o->broken_whyz),
                   worker->o->broken_facts_fd);
    if (worker->o->broken_facts_fd >= 0)
        (void)close(worker->o->broken_facts_fd);
    for (uint32_t i = 0; i < worker->o->listen_count; i++) {
        enum moon_err err =
            moon_server_listen(worker->server, worker->o->listen_fds[i],
                               moon_config_is_proxied(worker->o->fixed, i));
        if (err != MOON_OK) {
            moon_log(MOON_LOG_ERROR, "cannot accept connections: %s",
                     moon_err_text(err));
            exit(1);
        }
    }
    worker->serving = worker->accepting = true;
    moon_shm_set32(&worker->slot->state, MOON_WORKER_SERVING);
}

/* The first generation is up: from now on we serve, unless an old master's
 * workers still do. */
static void become_ready(struct moon_worker *worker)
{
    worker->loaded = true;
    if (!worker->o->hold)
        start_accepting(worker);
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_READY);
    msg.generation = moon_generations_current(worker->generations)->number;
    msg.count = (uint32_t)((moon_clock_ns() - worker->load_ns) / 1000);
    moon_worker_send(worker, &msg);
}

static void on_vote(void *ctx, uint64_t txn, bool ok, struct moon_str error)
{
    struct moon_worker *worker = ctx;
    if (worker->loaded || worker->draining) {
        tell(worker, ok ? MOON_CONTROL_PREPARED : MOON_CONTROL_FAILED, txn,
             error);
        return;
    }
    if (ok && commit(worker, txn)) {
        become_ready(worker);
        return;
    }
    /* It loaded in the probe: a resource of this worker, or luck. */
    moon_log(MOON_LOG_ERROR, "the application does not load here: %.*s",
             MOON_STR_ARG(error));
    tell(worker, MOON_CONTROL_FAILED, txn, error);
    moon_coverage_write();
    moon_log_stop_writer();
    _exit(1);
}

static void on_change(void *ctx)
{
    struct moon_worker *worker = ctx;
    moon_worker_publish(worker);
    if (worker->draining)
        moon_worker_check_drained(worker);
}

static void prepare(struct moon_worker *worker, struct moon_control_msg *msg)
{
    struct moon_release *release = NULL;
    struct moon_buf error = {0};
    if (worker->draining || msg->fds[0] < 0 || msg->fds[1] < 0) {
        tell(worker, MOON_CONTROL_FAILED, msg->txn,
             MOON_STR("this worker is about to exit"));
        return;
    }
    int archive_fd = moon_control_msg_take_fd(msg, 0);
    int config_fd = moon_control_msg_take_fd(msg, 1);
    if (moon_release_create(msg->generation, archive_fd, config_fd, msg->text,
                            &release, &error) == MOON_OK) {
        moon_generations_prepare(worker->generations, release, msg->txn);
        moon_release_unref(release);
    } else {
        tell(worker, MOON_CONTROL_FAILED, msg->txn, moon_buf_str(&error));
    }
    moon_buf_deinit(&error);
}

/* ---- orders ---- */

static void send_requests(struct moon_worker *worker, uint64_t txn)
{
    struct moon_buf text = {0};
    moon_worker_list_requests(worker, &text);
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_REQUESTS_TEXT);
    msg.txn = txn;
    msg.text = moon_buf_str(&text);
    msg.count = moon_server_exchanges(worker->server);
    moon_worker_send(worker, &msg);
    moon_buf_deinit(&text);
}

static void obey(struct moon_worker *worker, struct moon_control_msg *msg)
{
    switch ((enum moon_control_type)msg->type) {
    case MOON_CONTROL_PREPARE:
        prepare(worker, msg);
        break;
    case MOON_CONTROL_COMMIT:
        if (commit(worker, msg->txn))
            tell(worker, MOON_CONTROL_COMMITTED, msg->txn, MOON_STR_NONE);
        break;
    case MOON_CONTROL_DROP:
        moon_generations_drop(worker->generations, msg->txn);
        break;
    case MOON_CONTROL_DRAIN:
        moon_worker_drain(worker, msg->count);
        break;
    case MOON_CONTROL_ACCEPT:
        start_accepting(worker);
        break;
    case MOON_CONTROL_REOPEN_LOGS:
        if (moon_log_reopen() != MOON_OK)
            moon_log(MOON_LOG_ERROR, "cannot open the log file again");
        break;
    case MOON_CONTROL_BROKEN:
        show_error(worker, msg->text, msg->fds[0]);
        break;
    case MOON_CONTROL_REQUESTS:
        if (worker->server != NULL)
            send_requests(worker, msg->txn);
        break;
    default:
        moon_log(MOON_LOG_ERROR, "message %u from the master makes no sense",
                 msg->type);
        break;
    }
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct moon_worker *worker = poll->data;
    static struct moon_control_buf buf; /* one loop thread a process */
    for (;;) {
        struct moon_control_msg msg;
        enum moon_err err =
            status < 0
                ? MOON_ECLOSED
                : moon_control_receive(worker->o->control_fd, &msg, &buf);
        if (err == MOON_EAGAIN)
            return;
        if (err != MOON_OK) {
            worker->control_lost = true;
            (void)uv_poll_stop(poll);
            if (!worker->draining)
                moon_log(MOON_LOG_WARN, "the master is gone: draining");
            moon_worker_drain(worker, moon_shm_get32(&side(worker)->shared));
            return;
        }
        obey(worker, &msg);
        moon_control_msg_close(&msg);
    }
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct moon_worker *worker = poll->data;
    struct signalfd_siginfo info;
    while (read(worker->signal_fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        int sig = (int)info.ssi_signo;
        if (sig == SIGUSR1) {
            moon_log(MOON_LOG_INFO, "SIGUSR1: passed on to the master");
            tell(worker, MOON_CONTROL_RELOAD, 0, MOON_STR_NONE);
        } else if (sig != SIGCHLD && sig != SIGINT) {
            /* Ctrl-C reaches the whole group; anything else was aimed. */
            moon_log(MOON_LOG_INFO,
                     "SIG%s ignored: send it to the master (pid %d)",
                     sigabbrev_np(sig), (int)getppid());
        }
    }
}

/* ---- life ---- */

static void tend_cluster(struct moon_worker *worker)
{
    const struct moon_generation *current =
        moon_generations_current(worker->generations);
    moon_node_list_tend(worker->node_list, current->config);
    moon_limit_set_tend(moon_vm_limits(current->vm));
}

/* Counters are published here and when generations change, not at every turn
 * of the loop, which under load would be at every request. */
static void on_beat(uv_timer_t *timer)
{
    struct moon_worker *worker = timer->data;
    moon_shm_set32(&worker->slot->heartbeat, ++worker->beats);
    moon_worker_measure_lag(worker, BEAT_MS);
    moon_worker_publish(worker);
    if (worker->beats % TEND_BEATS == 0)
        moon_generations_tend(worker->generations);
    if (worker->beats % LIST_BEATS == 0 && worker->serving && !worker->draining)
        tend_cluster(worker);
}

/* Once a worker has seen it up, its failures are those of the requests that
 * need it; and so they are if it is away when all nodes start anew. */
static bool has_store(const struct moon_worker *worker)
{
    _Atomic uint32_t *stored = &worker->o->shm->stored;
    struct moon_session_source *source =
        moon_generations_sessions(worker->generations);
    if (moon_shm_get32(stored) == 0 && source != NULL &&
        (moon_session_source_works(source) ||
         moon_clock_ms() - moon_shm_get(&worker->slot->started_ms) >
             STORE_WAIT_MS))
        moon_shm_set32(stored, 1);
    return moon_shm_get32(stored) != 0;
}

static const char *not_ready(void *ctx)
{
    const struct moon_worker *worker = ctx;
    switch (moon_shm_get32(&side(worker)->node_state)) {
    case MOON_NODE_READY:
        if (worker->draining && !moon_worker_is_replaced(worker))
            return "draining\n";
        return has_store(worker) ? NULL : "the session store does not answer\n";
    case MOON_NODE_DRAINING:
        return "draining\n";
    default:
        return "starting\n";
    }
}

MOON_NORETURN static void die(const char *whatz)
{
    moon_log(MOON_LOG_ERROR, "cannot start: %s", whatz);
    moon_log_stop_writer();
    _exit(1);
}

static void become(struct moon_worker *worker)
{
    const struct moon_worker_options *o = worker->o;
    char text[512], who[128];
    (void)snprintf(who, sizeof(who), "%s worker %u", o->nodez, o->place + 1);
    moon_log_set_who(who);
    if (moon_process_become(o->fixed->userz, text, sizeof(text)) != MOON_OK)
        die(text);
    if (chdir(o->release->dirz) != 0)
        moon_log(MOON_LOG_DEBUG, "cannot enter %s", o->release->dirz);
    moon_tally_reset();
    worker->slot = &o->shm->slots[o->slot];
    atomic_store(&worker->slot->pid, (int32_t)getpid());
    atomic_store(&worker->slot->tid, (int32_t)gettid());
    moon_shm_set(&worker->slot->started_ms, moon_clock_ms());
    moon_shm_set(&worker->slot->running_at,
                 (uint64_t)(uintptr_t)moon_task_running_at());
    moon_shm_set32(&worker->slot->state, MOON_WORKER_STARTING);
    for (int i = 0; i < MOON_COUNTERS; i++)
        worker->base_counters[i] = moon_shm_get(&worker->slot->counters[i]);
}

/* What the node counts in a table of its own. */
static void open_tally(struct moon_worker *worker)
{
    const struct moon_worker_options *o = worker->o;
    const struct moon_metric_info refusals = {
        .kind = MOON_METRIC_COUNTER,
        .name = MOON_STR("moonshine_limit_refusals_total"),
        .help = MOON_STR("Requests refused by a rate limit"),
        .labels = MOON_STR("limit")};
    if (moon_metrics_open(o->region, MOON_METRICS_NODE, o->shm->slot_count,
                          o->fixed->metrics_max_series,
                          &worker->node_metrics) != MOON_OK ||
        moon_tally_table_open(&worker->tally_table, worker->node_metrics,
                              o->slot, worker->slot->took) != MOON_OK ||
        moon_metrics_declare(worker->node_metrics, o->slot, 0, &refusals,
                             &worker->commons.refusals) != MOON_OK)
        die("no memory for the node's metrics");
    worker->commons.node_metrics = worker->node_metrics;
}

static void make_stores(struct moon_worker *worker)
{
    const struct moon_worker_options *o = worker->o;
    char kept[PATH_MAX];
    moon_session_dir_path(o->fixed, kept, sizeof(kept));
    worker->session_stores = moon_session_stores_create(
        &(struct moon_session_stores_options){.loop = &worker->loop,
                                              .kept_dirz = kept,
                                              .memory_dirz = o->memory_dirz,
                                              .nodez = o->nodez});
    if (worker->session_stores == NULL)
        die("out of memory");
}

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

/* libuv makes the threads of its pool when the first is needed, and aborts if
 * it cannot: rather here than in the middle of requests. */
static void start_pool(struct moon_worker *worker)
{
    if (uv_queue_work(&worker->loop, &worker->pool_start, do_nothing, NULL) !=
        0)
        die("no thread pool");
}

static void make_parts(struct moon_worker *worker)
{
    const struct moon_worker_options *o = worker->o;
    if (uv_loop_init(&worker->loop) != 0)
        die("no event loop");
    start_pool(worker);
    if (moon_log_start_writer() != MOON_OK)
        die("no log writer");
    if (moon_budget_create(&worker->budget) != MOON_OK ||
        (worker->watch =
             moon_budget_watch(worker->budget, &worker->slot->slice)) == NULL)
        die("no watchdog");
    if (moon_builder_create(&worker->loop, worker->budget, &worker->builder) !=
        MOON_OK)
        die("no builder thread");
    worker->handler =
        moon_app_handler_create(&(struct moon_app_handler_options){
            .not_ready = not_ready, .ctx = worker, .dev = o->dev});
    if (worker->handler == NULL)
        die("out of memory");
    struct moon_server_config config;
    moon_app_server_config(o->release->config, &config);
    worker->server = moon_server_create(
        &worker->loop, moon_app_handler_ops(worker->handler), &config);
    if (worker->server == NULL)
        die("out of memory");
    moon_server_set_share(
        worker->server,
        &(struct moon_accept_share){.mine = &worker->slot->connections,
                                    .average = moon_shm_average_connections,
                                    .ctx = o->shm});
    worker->client_counts =
        moon_client_counts_open(o->region, o->shm->slot_count, o->slot);
    if (worker->client_counts == NULL)
        die("no memory for counts of clients");
    moon_server_set_client_counts(worker->server, worker->client_counts);
    if (moon_commons_init(&worker->commons, o->region, o->shm->slot_count,
                          o->slot, o->fixed) != MOON_OK)
        die("no memory for limits and metrics");
    open_tally(worker);
    worker->commons.news = &o->shm->cluster;
    make_stores(worker);
    worker->generations =
        moon_generations_create(&(struct moon_generations_options){
            .loop = &worker->loop,
            .builder = worker->builder,
            .watch = worker->watch,
            .handler = worker->handler,
            .commons = &worker->commons,
            .session_stores = worker->session_stores,
            .tally_table = &worker->tally_table,
            .app_filez = o->app_filez,
            .nodez = o->nodez,
            .worker_id = o->place + 1,
            .worker_count = o->worker_count,
            .dev = o->dev,
            .complained = &o->shm->complained,
            .voted = on_vote,
            .changed = on_change,
            .ctx = worker});
    worker->node_list = moon_node_list_create(
        &(struct moon_node_list_options){.loop = &worker->loop,
                                         .shm = o->shm,
                                         .side = o->side,
                                         .slot = o->slot,
                                         .nodez = o->nodez,
                                         .run_dirz = o->fixed->run_dirz,
                                         .adminz = o->fixed->adminz,
                                         .master_pid = (int)getppid()});
    if (worker->generations == NULL || worker->node_list == NULL)
        die("out of memory");
}

static void start_handles(struct moon_worker *worker)
{
    uv_loop_t *loop = &worker->loop;
    sigset_t set;
    moon_process_signal_set(&set);
    worker->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    worker->control.data = worker->signals.data = worker;
    worker->beat.data = worker->drain_timer.data = worker;
    if (worker->signal_fd < 0 ||
        uv_poll_init(loop, &worker->signals, worker->signal_fd) != 0 ||
        uv_poll_start(&worker->signals, UV_READABLE, on_signal) != 0 ||
        uv_poll_init(loop, &worker->control, worker->o->control_fd) != 0 ||
        uv_poll_start(&worker->control, UV_READABLE, on_control) != 0)
        die("no control socket");
    (void)uv_timer_init(loop, &worker->drain_timer);
    (void)uv_timer_init(loop, &worker->beat);
    (void)uv_timer_start(&worker->beat, on_beat, BEAT_MS, BEAT_MS);
    worker->beat_ns = moon_clock_ns();
    /* From here on the master watches: the first request may be the one. */
    moon_shm_set32(&worker->slot->heartbeat, ++worker->beats);
}

static void count_closed(void *ctx)
{
    (void)ctx;
}

/* All is idle; everything is given back, so that a leak checker can tell. */
static void tear_down(struct moon_worker *worker)
{
    moon_server_destroy(worker->server, count_closed, NULL);
    worker->server = NULL;
    moon_pool_close();
    moon_node_list_destroy(worker->node_list);
    moon_session_stores_destroy(worker->session_stores);
    moon_redis_close_all();
    moon_builder_destroy(worker->builder, NULL, NULL);
    uv_close((uv_handle_t *)&worker->signals, NULL);
    uv_close((uv_handle_t *)&worker->control, NULL);
    uv_close((uv_handle_t *)&worker->beat, NULL);
    uv_close((uv_handle_t *)&worker->drain_timer, NULL);
    (void)uv_run(&worker->loop, UV_RUN_DEFAULT);
    moon_generations_destroy(worker->generations);
    moon_commons_deinit(&worker->commons);
    moon_client_counts_close(worker->client_counts);
    moon_metrics_close(worker->node_metrics);
    moon_app_handler_destroy(worker->handler);
    moon_budget_unwatch(worker->watch);
    moon_budget_destroy(worker->budget);
    if (uv_loop_close(&worker->loop) != 0)
        moon_log(MOON_LOG_DEBUG, "handles were left open");
    moon_release_unref(worker->o->release);
}

void moon_worker_main(const struct moon_worker_options *options)
{
    static struct moon_worker worker; /* reachable for leak checkers */
    worker = (struct moon_worker){.o = options};
    become(&worker);
    make_parts(&worker);
    start_handles(&worker);
    worker.load_ns = moon_clock_ns();
    moon_generations_prepare(worker.generations, options->release, 0);
    (void)uv_run(&worker.loop, UV_RUN_DEFAULT);
    moon_worker_publish(&worker); /* what the last beat did not */
    bool clean = worker.finished && !worker.cut;
    if (clean)
        tear_down(&worker);
    moon_coverage_write();
    moon_log_stop_writer();
    if (clean)
        exit(0);
    _exit(0); /* what was cut off at drain_timeout cannot be torn down */
}
