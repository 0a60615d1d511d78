/* The HTTP server of one process: listeners, connections, their limits and
 * timers, and the handler that answers. One loop, one thread. The worker runs
 * one for the application, the master one for the admin endpoints.
 *
 * A server owns its connections and exchanges; it borrows the listening
 * sockets (the master keeps them for the next worker). */
#ifndef MOON_NET_SERVER_H
#define MOON_NET_SERVER_H

#include "http/exchange.h"

struct moon_client_counts; /* state/client_counts.h */

#include <uv.h>

struct moon_server;

/* What the server asks of whoever answers. All on the loop. */
struct moon_handler {
    void *ctx;
    /* The head is here: set route, scope, body mode and limit, or answer at
     * once with x->ops->respond (then the body is not waited for). */
    void (*on_head)(void *ctx, struct moon_exchange *x);
    /* Run it: a buffered body is complete, a streamed one may still come. */
    void (*on_run)(void *ctx, struct moon_exchange *x);
    /* Streamed body: more to read, or its end. */
    void (*on_readable)(void *ctx, struct moon_exchange *x);
    /* After MOON_EAGAIN of stream_write: go on. */
    void (*on_writable)(void *ctx, struct moon_exchange *x);
    /* The whole response was handed to the kernel (or the client left). */
    void (*on_sent)(void *ctx, struct moon_exchange *x);
    /* The client is gone while the application holds x. */
    void (*on_gone)(void *ctx, struct moon_exchange *x);
    /* The request's timer (moon_server_set_timeout) ran out. */
    void (*on_timeout)(void *ctx, struct moon_exchange *x);
    /* The exchange ends: log and count it. Last call for it. */
    void (*on_end)(void *ctx, struct moon_exchange *x);
    /* A request that could not be parsed: status and why; may set a body
     * through respond as any answer. */
    void (*on_bad_request)(void *ctx, struct moon_exchange *x, int status,
                           const char *why);
};

struct moon_server_config {
    struct moon_http_limits limits;
    uint64_t header_timeout_ms, body_timeout_ms, write_timeout_ms,
        keepalive_timeout_ms;
    uint64_t body_buffer_bytes, body_memory_bytes;
    uint64_t output_memory_bytes;                 /* UINT64_MAX: no limit */
    uint32_t max_connections, keepalive_requests; /* 0: none */
    uint32_t max_connections_per_ip;              /* 0: none */
    const char *temp_dirz;                        /* borrowed */
    const struct moon_nets *trusted_proxies;      /* borrowed; NULL: none */
};

/* Fair sharing of connections: how many each worker holds, in shared memory.
 * NULL pointers: take all. */
struct moon_accept_share {
    _Atomic uint32_t *mine;
    uint32_t (*average)(void *ctx); /* over the live workers */
    void *ctx;
};

MOON_MUST_CHECK struct moon_server *moon_server_create(
    uv_loop_t *loop, const struct moon_handler *handler,
    const struct moon_server_config *config);
/* New connections and requests use it from now on (a reload); old connections,
 * too, are trusted or not by it. */
void moon_server_configure(struct moon_server *server,
                           const struct moon_server_config *config);
void moon_server_set_share(struct moon_server *server,
                           const struct moon_accept_share *share);

/* Counts the connections of each client there, for max_connections_per_ip.
 * Borrowed; before the first connection. */
void moon_server_set_client_counts(struct moon_server *server,
                                   struct moon_client_counts *clients);

/* Starts to accept on a listening socket, borrowed until stop_accepting. With
 * `proxy_protocol` every connection begins with a PROXY header of a trusted
 * peer, whose client then is the peer in everything else; others are closed. */
MOON_MUST_CHECK enum moon_err moon_server_listen(struct moon_server *server,
                                                 int fd, bool proxy_protocol);
/* Accepts until the queue is empty, then no more (drain). */
void moon_server_stop_accepting(struct moon_server *server);
/* From now on every answer says Connection: close; idle connections end when
 * the peer closes, after their next answer, or after `idle_ms`. */
void moon_server_drain(struct moon_server *server, uint64_t idle_ms);
uint32_t moon_server_connections(const struct moon_server *server);
uint32_t moon_server_exchanges(const struct moon_server *server);
/* The live exchanges, newest first (status --requests). */
struct moon_exchange *moon_server_first(const struct moon_server *server);
/* Closes every connection now. */
void moon_server_close_all(struct moon_server *server);
/* After close_all: `closed` fires once when the last handle is gone, and the
 * server is freed. */
void moon_server_destroy(struct moon_server *server, void (*closed)(void *ctx),
                         void *ctx);

/* One deadline per exchange, counted from x->started_ns; 0 clears it. Coarse:
 * up to 64 ms late. */
void moon_server_set_timeout(struct moon_exchange *x, uint64_t timeout_ms);

/* May there be one more answer, or do too many wait for their clients? Makes
 * room first, if it can. For a request whose head is there. */
bool moon_server_has_output_room(struct moon_exchange *x);

struct moon_server_stats {
    uint64_t accepted, requests, bad_requests, timeouts, resets, accept_pauses,
        shed;
    uint64_t full; /* times that max_connections was reached */
    uint64_t refused, refused_per_ip; /* connections */
    uint64_t bytes_in, bytes_out;
    uint64_t status_class[6]; /* [2] counts 2xx, ... */
};
const struct moon_server_stats *moon_server_get_stats(
    const struct moon_server *server);

#endif
