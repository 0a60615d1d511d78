#include "net/server_state.h"

#include "base/compiler.h"
#include "base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SHARE_PAUSE_MS = 2,
    NO_FILES_PAUSE_MS = 10,
    UNSENT_BYTES = 128 * 1024, /* in the kernel, beyond what is on its way */
};

static void on_connect(uv_poll_t *handle, int status, int events);

/* Stops or starts polling as the reasons to wait come and go. */
static void update(struct moon_server *server)
{
    bool poll = !server->accept_paused && !server->accept_full;
    for (struct moon_listener *l = server->listeners; l != NULL; l = l->next) {
        if (l->polling == poll)
            continue;
        l->polling = poll;
        if (!poll)
            uv_poll_stop(&l->poll);
        else if (uv_poll_start(&l->poll, UV_READABLE, on_connect) != 0)
            l->polling = false;
    }
}

static void pause_for(struct moon_server *server, uint64_t ms)
{
    server->stats.accept_pauses++;
    server->accept_paused = true;
    uv_timer_start(&server->accept_timer, moon_listener_timer, ms, 0);
    update(server);
}

void moon_listener_timer(uv_timer_t *timer)
{
    struct moon_server *server =
        MOON_CONTAINER(timer, struct moon_server, accept_timer);
    server->accept_paused = false;
    update(server);
}

/* Published at each change, so that the others can compare. */
void moon_listener_share(struct moon_server *server)
{
    if (server->has_share && server->share.mine != NULL)
        atomic_store_explicit(server->share.mine, moon_admission_live(server),
                              memory_order_relaxed);
    bool full = moon_admission_is_full(server);
    server->stats.full += full && !server->full;
    server->full = full;
    bool pause = moon_admission_must_pause(server);
    if (MOON_UNLIKELY(pause != server->accept_full)) {
        server->accept_full = pause;
        update(server);
    }
}

/* All workers poll the same socket; one that has more than its share, or is
 * full while others are not, leaves the next connections to them for a moment.
 */
static bool over_share(const struct moon_server *server)
{
    if (!server->has_share || server->share.average == NULL)
        return false;
    uint32_t average = server->share.average(server->share.ctx);
    if (server->full && average < server->config.max_connections)
        return true;
    return moon_admission_live(server) >= average + 1 + average / 8;
}

/* No descriptors left: the connection that has been idle for the longest time
 * makes room. Its deadline tells: all idle ones wait equally long. */
static void close_oldest_idle(struct moon_server *server)
{
    struct moon_conn *oldest = NULL;
    for (struct moon_conn *c = server->conns; c != NULL; c = c->next) {
        if (moon_conn_is_idle(c) &&
            (oldest == NULL || c->timer.due < oldest->timer.due))
            oldest = c;
    }
    if (oldest != NULL) {
        server->stats.shed++;
        moon_conn_close(oldest);
    }
}

static void out_of_files(struct moon_server *server, int error)
{
    if (moon_server_may_log(server, &server->emfile_logged_ms)) {
        moon_log(MOON_LOG_WARN,
                 "cannot accept connections: %s (%u open); idle ones are "
                 "closed, raise the descriptor limit",
                 strerror(error), server->conn_count);
    }
    close_oldest_idle(server);
    pause_for(server, NO_FILES_PAUSE_MS);
}

/* False when there is nothing (more) to accept. */
static bool accept_one(const struct moon_listener *l)
{
    struct moon_server *server = l->server;
    union {
        struct sockaddr sa;
        struct sockaddr_storage room;
    } peer;
    socklen_t len = sizeof(peer);
    peer.room.ss_family = AF_UNIX;
    int conn = accept4(l->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (conn >= 0) {
        moon_conn_open(l, conn, &peer.sa);
        return true;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
        errno == ENOMEM) {
        out_of_files(server, errno);
        return false;
    }
    /* ECONNABORTED and the network errors of accept(2) concern one
     * connection that is gone already. */
    return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINVAL &&
           errno != EBADF && errno != ENOTSOCK;
}

static void on_connect(uv_poll_t *handle, int status, int events)
{
    struct moon_listener *l =
        MOON_CONTAINER(handle, struct moon_listener, poll);
    struct moon_server *server = l->server;
    (void)events;
    if (status < 0) {
        /* libuv stopped polling; the next pause starts it again. */
        l->polling = false;
        pause_for(server, NO_FILES_PAUSE_MS);
        return;
    }
    if (over_share(server)) {
        pause_for(server, SHARE_PAUSE_MS);
        return;
    }
    accept_one(l);
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_listener *l =
        MOON_CONTAINER((uv_poll_t *)handle, struct moon_listener, poll);
    struct moon_server *server = l->server;
    free(l);
    server->open_handles--;
    moon_server_one_less(server);
}

/* Accepted sockets inherit them (and not from a unix socket, which has no such
 * options). By itself the kernel takes megabytes for a client that reads
 * nothing, and has none left for others after a thousand of these. */
static void set_options(int fd)
{
    int on = 1, unsent_bytes = UNSENT_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes,
                     sizeof(unsent_bytes));
}

enum moon_err moon_server_listen(struct moon_server *server, int fd,
                                 bool proxy_protocol)
{
    struct moon_listener *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return MOON_ENOMEM;
    int error = uv_poll_init(server->loop, &l->poll, fd);
    if (error != 0) {
        free(l);
        return moon_err_from_errno(-error);
    }
    set_options(fd);
    server->open_handles++;
    l->server = server;
    l->fd = fd;
    l->proxy_protocol = proxy_protocol;
    l->next = server->listeners;
    server->listeners = l;
    update(server);
    return MOON_OK;
}

void moon_listener_close_all(struct moon_server *server, bool drain_queue)
{
    struct moon_listener *list = server->listeners;
    server->listeners = NULL;
    while (list != NULL) {
        struct moon_listener *l = list;
        list = l->next;
        server->accept_all = drain_queue;
        while (drain_queue && accept_one(l))
            continue;
        server->accept_all = false;
        uv_poll_stop(&l->poll);
        uv_close((uv_handle_t *)&l->poll, on_closed);
    }
}

void moon_server_stop_accepting(struct moon_server *server)
{
    moon_listener_close_all(server, true);
}
