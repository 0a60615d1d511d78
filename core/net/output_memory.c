/* The memory for answers that wait until their clients take them: bounded by
 * output_memory. Where it is used up, the answers that nobody takes are given
 * up first, so that slow clients cannot shut out the others. */
#include "net/server_state.h"

#include "base/log.h"

/* Who takes nothing for STALLED_MS makes room. Of a socket with a large buffer
 * the kernel tells only now and then that somebody reads, hence not sooner. */
enum {
    STALLED_MS = 2000,
    LOG_EVERY_MS = 1000,
};

/* For how long the client has taken nothing of a large answer; 0: no matter. */
static uint64_t stalled_ms(const struct moon_conn *conn, uint64_t now_ms)
{
    uint64_t timeout_ms = conn->server->config.write_timeout_ms;
    if (conn->wait != MOON_WAIT_WRITE || conn->broken ||
        conn->timer.due == MOON_TIMER_OFF || moon_outq_held(&conn->out) == 0)
        return 0;
    uint64_t due_ms = (uint64_t)conn->timer.due * MOON_WHEEL_TICK_MS;
    uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    return left_ms < timeout_ms ? timeout_ms - left_ms : 0;
}

static struct moon_conn *most_stalled(const struct moon_server *server)
{
    uint64_t now_ms = uv_now(server->loop), best_ms = STALLED_MS - 1;
    struct moon_conn *best = NULL;
    for (struct moon_conn *conn = server->conns; conn; conn = conn->next) {
        uint64_t ms = stalled_ms(conn, now_ms);
        if (ms > best_ms) {
            best = conn;
            best_ms = ms;
        }
    }
    return best;
}

static void complain(struct moon_server *server, uint64_t held)
{
    uint64_t now_ms = uv_now(server->loop);
    if (server->output_logged_ms != 0 &&
        now_ms - server->output_logged_ms < LOG_EVERY_MS)
        return;
    server->output_logged_ms = now_ms;
    moon_log(MOON_LOG_WARN,
             "answers of %llu bytes wait for their clients, more than "
             "output_memory: %s",
             (unsigned long long)held,
             server->outpool.held <= server->config.output_memory_bytes
                 ? "those that nobody takes are given up"
                 : "requests are refused");
}

bool moon_output_make_room(struct moon_server *server)
{
    uint64_t limit = server->config.output_memory_bytes;
    uint64_t held = server->outpool.held;
    struct moon_conn *conn;
    while (server->outpool.held > limit &&
           (conn = most_stalled(server)) != NULL) {
        /* Its code may be on the stack: closed when the turn ends. */
        moon_outq_clear(&conn->out, &server->outpool);
        conn->broken = conn->reset = true;
        moon_conn_later(conn);
        server->stats.shed++;
    }
    complain(server, held);
    return server->outpool.held <= limit;
}
