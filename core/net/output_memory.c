/* The memory for answers that wait until their clients take them: bounded by
 * output_memory. Where it is used up, the answers that nobody takes are given
 * up first, so that slow clients cannot shut out the others. */
#include "net/server_state.h"

#include "base/log.h"

/* Who takes nothing for STALLED_MS makes room. Of a socket with a large buffer
 * the kernel tells only now and then that somebody reads, hence not sooner. */
enum { STALLED_MS = 2000 };

/* For how long the client has taken nothing of a large answer; 0: no matter. */
static uint64_t stalled_ms(const struct moon_conn *conn)
{
    if (conn->wait != MOON_WAIT_WRITE || conn->broken ||
        moon_outq_held(&conn->out) == 0)
        return 0;
    return moon_conn_waited_ms(conn, conn->server->config.write_timeout_ms);
}

static struct moon_conn *most_stalled(const struct moon_server *server)
{
    uint64_t best_ms = STALLED_MS - 1;
    struct moon_conn *best = NULL;
    for (struct moon_conn *conn = server->conns; conn; conn = conn->next) {
        uint64_t ms = stalled_ms(conn);
        if (ms > best_ms) {
            best = conn;
            best_ms = ms;
        }
    }
    return best;
}

static void complain(struct moon_server *server, uint64_t held)
{
    if (!moon_server_may_log(server, &server->output_logged_ms))
        return;
    moon_log(MOON_LOG_WARN,
             "answers of %llu bytes wait for their clients, more than "
             "output_memory: %s",
             (unsigned long long)held,
             server->outpool.held <= server->config.output_memory_bytes
                 ? "those that nobody takes are given up"
                 : "requests are refused");
}

/* The answers of whoever has waited longest; false: nobody has long enough. */
static bool give_up_one(struct moon_server *server)
{
    /* Then nobody has for the rest of this millisecond: a flood must not cost
     * more than it brings. */
    if (server->output_tried_ms == uv_now(server->loop))
        return false;
    struct moon_conn *conn = most_stalled(server);
    if (conn == NULL) {
        server->output_tried_ms = uv_now(server->loop);
        return false;
    }
    /* Its code may be on the stack: closed when the turn ends. */
    moon_outq_clear(&conn->out, &server->outpool);
    conn->broken = conn->reset = true;
    moon_conn_later(conn);
    server->stats.shed++;
    return true;
}

bool moon_output_make_room(struct moon_server *server)
{
    uint64_t limit = server->config.output_memory_bytes;
    uint64_t held = server->outpool.held;
    while (server->outpool.held > limit && give_up_one(server))
        continue;
    complain(server, held);
    return server->outpool.held <= limit;
}
