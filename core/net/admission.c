/* Who may connect: max_connections and max_connections_per_ip. Whoever may not
 * is told so in an answer (RFC 9110 section 15.6.4, RFC 6585 section 4) and
 * closed gently: a client that is refused by a reset cannot know why. */
#include "net/server_state.h"

#include "base/log.h"
#include "http/http_out.h"
#include "net/sys_io.h"

#include <string.h>

enum {
    LOOK_AT = 64,    /* connections, for one that is idle */
    IDLE_MS = 1000,  /* who is idle for that long makes room */
    AWAY_LEAST = 16, /* connections that are being turned away */
    AWAY_PART = 16,  /* more of them with a larger max_connections */
};

uint32_t moon_admission_live(const struct moon_server *server)
{
    return server->conn_count - server->away_count;
}

bool moon_admission_is_full(const struct moon_server *server)
{
    uint32_t max = server->config.max_connections;
    return max != 0 && moon_admission_live(server) >= max;
}

bool moon_admission_must_pause(const struct moon_server *server)
{
    return server->away_count >=
           AWAY_LEAST + server->config.max_connections / AWAY_PART;
}

static uint64_t idle_ms(const struct moon_conn *conn)
{
    const struct moon_server *server = conn->server;
    uint64_t timeout_ms = conn->requests == 0
                              ? server->config.header_timeout_ms
                              : server->config.keepalive_timeout_ms;
    return moon_conn_is_idle(conn) ? moon_conn_waited_ms(conn, timeout_ms) : 0;
}

/* Closes the connection that has been idle for the longest time of some, which
 * are others each time: a flood must not cost more than it brings. */
static void make_room(struct moon_server *server)
{
    struct moon_conn *best = NULL;
    uint64_t best_ms = IDLE_MS - 1;
    for (int i = 0; i < LOOK_AT; i++) {
        struct moon_conn *conn =
            server->sweep != NULL ? server->sweep : server->conns;
        if (conn == NULL)
            break;
        server->sweep = conn->next;
        uint64_t ms = idle_ms(conn);
        if (ms > best_ms) {
            best = conn;
            best_ms = ms;
        }
    }
    if (best == NULL)
        return;
    server->stats.shed++;
    moon_conn_close(best);
}

static void complain(struct moon_server *server, const struct moon_conn *conn,
                     int status)
{
    char text[MOON_IP_TEXT];
    if (!moon_server_may_log(server, status == 429 ? &server->crowd_logged_ms
                                                   : &server->full_logged_ms))
        return;
    if (status == 429)
        moon_log(MOON_LOG_WARN,
                 "refused a connection from %.*s: it has "
                 "max_connections_per_ip (%u) (%llu refused so far)",
                 MOON_STR_ARG(moon_peer_ip(&conn->peer, text)),
                 server->config.max_connections_per_ip,
                 (unsigned long long)server->stats.refused_per_ip);
    else
        moon_log(MOON_LOG_WARN,
                 "refused a connection: there are max_connections (%u) "
                 "(%llu refused so far)",
                 server->config.max_connections,
                 (unsigned long long)server->stats.refused);
}

/* The answer comes before any request, which nobody will read. */
static void turn_away(struct moon_conn *conn, int status, struct moon_str why)
{
    static const struct moon_out_field later = {{"Retry-After", 11}, {"1", 1}};
    struct moon_server *server = conn->server;
    struct moon_out_field fields[] = {later};
    struct moon_response res;
    struct moon_out_head head = {
        .framing = MOON_OUT_LENGTH,
        .content_length = why.len,
        .minor = 1,
        .content_type = MOON_STR("text/plain; charset=utf-8"),
    };
    struct moon_buf answer = {0};
    moon_response_init(&res, fields, MOON_COUNT(fields));
    res.status = (uint16_t)status;
    res.field_count = MOON_COUNT(fields);
    moon_http_out_head(&answer, &res, &head);
    moon_buf_add_str(&answer, why);
    conn->away = true;
    server->away_count++;
    server->stats.status_class[status / 100]++;
    complain(server, conn, status);
    /* Nothing was ever written to this socket, so there is room. */
    if (answer.failed ||
        moon_sys_write(conn->fd, answer.ptr, answer.len) != (ssize_t)answer.len)
        moon_conn_close(conn);
    else
        moon_conn_linger(conn);
    moon_buf_deinit(&answer);
    moon_listener_share(server);
}

/* Whose connection it counts as; false: nobody's. Connections of a proxy are
 * those of many clients, and a unix socket has no address. */
static bool client_of(const struct moon_conn *conn,
                      uint8_t addr[MOON_CLIENT_ADDR])
{
    const struct moon_peer *peer = &conn->peer;
    struct moon_str network = moon_peer_network(peer);
    if (peer->trust != MOON_PEER_STRANGER || conn->preface || network.len == 0)
        return false;
    memset(addr, 0, MOON_CLIENT_ADDR);
    memcpy(addr + MOON_CLIENT_ADDR - network.len, network.ptr, network.len);
    return true;
}

static void count_client(struct moon_conn *conn)
{
    struct moon_client_counts *clients = conn->server->clients;
    uint8_t addr[MOON_CLIENT_ADDR];
    if (!conn->counted && !conn->away && client_of(conn, addr))
        conn->counted = moon_client_counts_add(clients, addr);
}

void moon_admission_forget(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    uint8_t addr[MOON_CLIENT_ADDR];
    if (server->sweep == conn)
        server->sweep = conn->next;
    if (conn->away)
        server->away_count--;
    if (!conn->counted)
        return;
    conn->counted = false;
    /* It may have become a trusted proxy since. */
    conn->peer.trust = MOON_PEER_STRANGER;
    if (client_of(conn, addr))
        moon_client_counts_drop(server->clients, addr);
}

void moon_admission_configure(struct moon_server *server)
{
    if (server->clients == NULL || server->config.max_connections_per_ip == 0)
        return;
    for (struct moon_conn *c = server->conns; c != NULL; c = c->next)
        count_client(c);
}

bool moon_admission_client(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    uint8_t addr[MOON_CLIENT_ADDR];
    uint32_t max = server->config.max_connections_per_ip;
    if (max == 0 || server->clients == NULL)
        return true;
    count_client(conn);
    if (!conn->counted || !client_of(conn, addr) ||
        moon_client_counts_get(server->clients, addr) <= max)
        return true;
    moon_client_counts_drop(server->clients, addr);
    conn->counted = false;
    server->stats.refused_per_ip++;
    turn_away(conn, 429, MOON_STR("too many connections from this address\n"));
    return false;
}

bool moon_admission_enter(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    uint32_t max = server->config.max_connections;
    if (max != 0 && !server->accept_all && moon_admission_live(server) > max) {
        make_room(server);
        if (moon_admission_live(server) > max) {
            server->stats.refused++;
            turn_away(conn, 503, MOON_STR("too many connections\n"));
            return false;
        }
    }
    return moon_admission_client(conn);
}
