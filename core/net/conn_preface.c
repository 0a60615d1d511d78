#include "http/proxy_protocol.h"
#include "net/server_state.h"

#include "base/log.h"

static void complain(struct moon_server *server, const struct moon_peer *peer,
                     const char *whyz)
{
    char text[MOON_IP_TEXT];
    server->stats.bad_requests++;
    if (!moon_server_may_log(server, &server->preface_logged_ms)) {
        server->preface_unlogged++;
        return;
    }
    struct moon_str ip = moon_peer_ip(peer, text);
    moon_log(MOON_LOG_WARN,
             "closed a connection from %.*s to a listener with "
             "proxy_protocol: %s (%u more since the last such line)",
             MOON_STR_ARG(ip.len > 0 ? ip : MOON_STR("a unix socket")), whyz,
             server->preface_unlogged);
    server->preface_unlogged = 0;
}

bool moon_preface_allowed(struct moon_server *server,
                          const struct moon_peer *peer)
{
    if (peer->trust == MOON_PEER_TRUSTED)
        return true;
    complain(server, peer, "it is not one of trusted_proxies");
    return false;
}

void moon_preface_read(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    struct moon_inbuf *in = conn->in;
    const char *whyz;
    size_t used;
    if (in == NULL)
        in = conn->in = moon_inbuf_take(server, MOON_READ_BYTES);
    /* There is room: a header is never longer than the buffer. */
    ssize_t got = in == NULL ? -1
                             : moon_conn_read_fd(conn, in->bytes + in->end,
                                                 in->cap - in->end);
    if (in == NULL || conn->eof)
        conn->broken = true; /* a check of a balancer, or gone: no news */
    if (got <= 0)
        return;
    in->end += (uint32_t)got;
    in->fed = in->end; /* not for the HTTP parser */
    switch (moon_proxy_protocol_read(moon_str(in->bytes, in->end), &used,
                                     &conn->peer, &whyz)) {
    case MOON_PROXY_MORE:
        return;
    case MOON_PROXY_BAD:
        complain(server, &conn->peer, whyz);
        conn->broken = true;
        return;
    case MOON_PROXY_DONE:
        break;
    }
    conn->preface = false;
    moon_conn_set_trust(conn);
    in->start = in->fed = (uint32_t)used;
    if (moon_admission_client(conn))
        moon_conn_run_input(conn);
}
