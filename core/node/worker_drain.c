/* The end of a worker. Nothing that has reached us is lost: what queued on the
 * listening sockets is accepted, what is in flight finishes, idle connections
 * end by answering their next request with Connection: close. */
#include "node/worker_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUIET_MS = 20, STEP_MS = 20, CUT_GRACE_MS = 500 };

/* From here on new connections get no answer to their SYN, so the queue ends;
 * closing at once would reset what is in it. A SYN repeats after a second, by
 * when the socket is closed and the client is refused. */
static void drop_syns(int fd)
{
    /* The filter sees the TCP header; flags are its byte 13. */
    struct sock_filter code[] = {
        {.code = BPF_LD | BPF_B | BPF_ABS, .k = 13},
        {.code = BPF_ALU | BPF_AND | BPF_K, .k = 0x12}, /* SYN and ACK */
        {.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = 0, .jf = 1, .k = 0x02},
        {.code = BPF_RET | BPF_K, .k = 0},
        {.code = BPF_RET | BPF_K, .k = 0xffffffffu},
    };
    struct sock_fprog program = {.len = MOON_COUNT(code), .filter = code};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
                   sizeof(program)) < 0)
        moon_log(MOON_LOG_DEBUG, "no filter on the listening socket: %s",
                 strerror(errno));
}

static bool is_shared(const struct moon_worker *worker, uint32_t i)
{
    return (worker->shared >> i & 1) != 0;
}

static void stop_listening(struct moon_worker *worker)
{
    worker->accepting = false;
    moon_server_stop_accepting(worker->server);
    for (uint32_t i = 0; i < worker->o->listen_count; i++)
        (void)close(worker->o->listen_fds[i]);
    const struct moon_config *config =
        moon_generations_config(worker->generations);
    uint64_t idle_ms = config != NULL ? config->drain_idle_ms : 0;
    moon_server_drain(worker->server, idle_ms);
}

static void finish(struct moon_worker *worker)
{
    worker->finished = true;
    (void)uv_timer_stop(&worker->drain_timer);
    uv_stop(&worker->loop);
}

/* drain_timeout is over: requests are cancelled, on_stop gets a moment, then
 * what is left is cut. */
static void cut(struct moon_worker *worker)
{
    if (worker->cut) {
        moon_server_close_all(worker->server);
        finish(worker);
        return;
    }
    worker->cut = true;
    worker->drain_deadline_ms += CUT_GRACE_MS;
    uint32_t requests = moon_server_exchanges(worker->server);
    if (requests > 0) {
        moon_log(MOON_LOG_WARN, "drain_timeout: cutting %u request%s", requests,
                 requests == 1 ? "" : "s");
        moon_generations_cancel_all(worker->generations);
    } else {
        moon_server_close_all(worker->server); /* idle ones */
    }
    if (!worker->retired) {
        worker->retired = true;
        moon_generations_retire_all(worker->generations);
    }
}

void moon_worker_check_drained(struct moon_worker *worker)
{
    if (!worker->draining || worker->accepting || worker->finished)
        return;
    if (moon_server_connections(worker->server) > 0 ||
        moon_server_exchanges(worker->server) > 0)
        return;
    if (!worker->retired) {
        worker->retired = true;
        moon_generations_retire_all(worker->generations);
    }
    if (moon_generations_live(worker->generations) == 0 &&
        moon_builder_pending(worker->builder) == 0)
        finish(worker);
}

static void on_step(uv_timer_t *timer)
{
    struct moon_worker *worker = timer->data;
    if (worker->accepting) {
        uint64_t accepted = moon_server_get_stats(worker->server)->accepted;
        if (accepted == worker->last_accepted)
            stop_listening(worker);
        worker->last_accepted = accepted;
    }
    moon_worker_check_drained(worker);
    if (!worker->finished && moon_clock_ms() >= worker->drain_deadline_ms)
        cut(worker);
}

bool moon_worker_is_replaced(const struct moon_worker *worker)
{
    uint32_t all = (uint32_t)((1ull << worker->o->listen_count) - 1);
    return worker->draining && (worker->shared & all) == all;
}

void moon_worker_drain(struct moon_worker *worker, uint32_t shared)
{
    if (worker->draining)
        return;
    worker->draining = true;
    worker->shared = shared;
    moon_shm_set32(&worker->slot->state, MOON_WORKER_DRAINING);
    const struct moon_config *config =
        moon_generations_config(worker->generations);
    if (config == NULL)
        config = worker->o->release->config;
    worker->drain_deadline_ms = moon_clock_ms() + config->drain_timeout_ms;
    if (!worker->loaded) {
        /* Nothing was ever accepted here. */
        moon_log_stop_writer();
        _exit(0);
    }
    moon_node_list_leave(worker->node_list);
    /* What is queued is for everybody now, fair or not. */
    moon_server_set_share(
        worker->server,
        &(struct moon_accept_share){.mine = &worker->slot->connections});
    for (uint32_t i = 0; i < worker->o->listen_count; i++)
        if (worker->o->listen_tcp[i] && !is_shared(worker, i))
            drop_syns(worker->o->listen_fds[i]);
    worker->last_accepted = moon_server_get_stats(worker->server)->accepted;
    if (worker->serving && moon_worker_is_replaced(worker))
        stop_listening(worker); /* others see to what comes */
    (void)uv_timer_start(&worker->drain_timer, on_step, QUIET_MS, STEP_MS);
}
