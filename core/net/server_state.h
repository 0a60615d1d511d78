/* What the files of the server share: the server, its connections, and the
 * exchanges with what only the network side knows of them. Private to net.
 *
 * A connection is driven from three places, all on the loop: its poll handle
 * (conn.c), the wheel (deadlines), and the turn list (something was answered
 * or asked for outside of its own events; before the loop sleeps). Each of them
 * ends in moon_conn_settle, which writes, reports and decides what to wait for.
 * Exchange operations only queue, mark and put the connection on the turn list:
 * that is why no callback comes from inside a call. */
#ifndef MOON_NET_SERVER_STATE_H
#define MOON_NET_SERVER_STATE_H

#include "net/outq.h"
#include "net/server.h"
#include "net/spool.h"
#include "net/timer_wheel.h"
#include "state/client_counts.h"

enum {
    MOON_READ_BYTES = 4096,          /* first read buffer */
    MOON_SCRATCH_BYTES = 64 * 1024,  /* per server, for bodies */
    MOON_PIPELINE_TURN = 16,         /* requests of one connection a turn */
    MOON_OUT_INLINE = 16 * 1024,     /* body copied behind its head */
    MOON_OUT_HIGH = 256 * 1024,      /* stream_write says "wait" */
    MOON_OUT_LOW = 64 * 1024,        /* on_writable */
    MOON_OUT_EAGER = 64 * 1024,      /* written before the turn ends */
    MOON_STREAM_IN_HIGH = 64 * 1024, /* unread body: stop reading */
    MOON_SPOOL_HIGH = 256 * 1024,    /* body not in its file yet: the same */
    MOON_DISCARD_MAX = 64 * 1024,    /* unwanted body read to keep the link */
    MOON_LINGER_MS = 10000,          /* lingering close: in all ... */
    MOON_LINGER_IDLE_MS = 2000,      /* ... and with nothing coming */
    MOON_AWAY_MS = 1000,             /* both, of one that may not connect */
    MOON_BODY_RATE = 500,            /* bytes a second, of a buffered body */
    MOON_EXCHANGE_ARENA = 2048,
    MOON_EXCHANGE_POOL = 64,
    MOON_INBUF_POOL = 64,
};

/* Bytes read. Requests refer to it by offset, so it stays until the last
 * exchange that was read into it has ended. */
struct moon_inbuf {
    struct moon_inbuf *next_free;
    uint32_t refs, cap;
    uint32_t start; /* first byte of the current message */
    uint32_t fed;   /* parsed up to here */
    uint32_t end;
    char bytes[];
};

/* Who else than the application (x.held_by_app) needs an exchange. */
enum moon_hold {
    MOON_HOLD_INPUT = 1,  /* the connection receives it */
    MOON_HOLD_OUTPUT = 2, /* its answer is not all out */
};

struct moon_netx {
    struct moon_exchange x; /* first: ops get a pointer to it */
    struct moon_server *server;
    struct moon_inbuf *in;  /* counted; NULL while the head arrives */
    struct moon_netx *next; /* answered queue, ended list or pool */
    uint64_t out_end;       /* the answer ends here in the output */
    struct moon_timer timer;
    struct moon_buf incoming; /* streamed body that the app has not asked for;
                                 what it reads is in x.body.memory */
    size_t read_at;           /* of x.body.memory: handed out so far */
    struct moon_spool *spool; /* the body goes to a file; owned, or NULL */
    uint64_t memory_counted;  /* of the server's body memory */
    uint64_t body_due_ms;     /* deadline of its body; uv_now */
    uint16_t refuse;          /* status, when the body sink gave up */
    uint8_t holds;            /* enum moon_hold */
    bool announced;           /* on_head was called: on_end is owed */
    bool input_done;          /* all of the request is consumed */
    bool body_wanted;         /* else it is skipped once the answer is given */
    bool queued;              /* in the connection's answered queue */
    bool chunked_out;
    bool no_content;   /* HEAD, 204, 304: body bytes are dropped */
    bool wants_input;  /* body_read said MOON_EAGAIN */
    bool wants_output; /* stream_write said MOON_EAGAIN */
    bool told_gone;
    bool continue_sent;
    bool probed;                     /* see moon_conn_hangup */
    struct moon_out_field fields[8]; /* the answer's first */
    _Alignas(16) char block[MOON_EXCHANGE_ARENA];
};

enum moon_wait {
    MOON_WAIT_NONE,
    MOON_WAIT_PREFACE,
    MOON_WAIT_IDLE,
    MOON_WAIT_HEAD,
    MOON_WAIT_BODY,
    MOON_WAIT_WRITE,
    MOON_WAIT_LINGER,
};

enum moon_timer_kind { MOON_TIMER_CONN, MOON_TIMER_EXCHANGE };

/* Counted in memory per idle connection: keep it small. */
struct moon_conn {
    uv_poll_t poll;
    struct moon_server *server;
    struct moon_conn *prev, *next;
    struct moon_conn *turn_next;
    struct moon_netx *cur;                      /* being received or run */
    struct moon_netx *answered, *answered_tail; /* not all written yet */
    struct moon_inbuf *in;                      /* counted */
    struct moon_outq out;
    struct moon_timer timer;
    uint32_t requests;
    int fd;
    uint32_t linger_until; /* wheel's milliseconds, low bits */
    struct moon_peer peer;
    uint8_t polled;   /* uv_poll events asked for */
    uint8_t wait;     /* enum moon_wait */
    bool keep : 1;    /* another request may follow */
    bool eof : 1;     /* read returned 0 */
    bool hung : 1;    /* the peer will send no more */
    bool quiet : 1;   /* input came that nobody wants now: do not poll it */
    bool urgent : 1;  /* out-of-band data: do not poll for it */
    bool blocked : 1; /* the kernel takes no more output */
    bool preface : 1; /* a PROXY header comes first */
    bool lingering : 1;
    bool needs_linger : 1;
    bool away : 1;    /* may not connect: it is told so */
    bool counted : 1; /* of its client's */
    bool reset : 1;   /* close so that the client knows it was cut off */
    bool dead : 1;
    bool closed : 1;  /* the handle's last callback ran */
    bool broken : 1;  /* to be closed at the next settle */
    bool on_turn : 1; /* in the turn list */
    bool active : 1;  /* its own code is on the stack */
};

struct moon_listener {
    uv_poll_t poll;
    struct moon_listener *next;
    struct moon_server *server;
    int fd; /* borrowed */
    bool polling;
    bool proxy_protocol;
};

struct moon_server {
    uv_loop_t *loop;
    struct moon_handler handler;
    struct moon_server_config config;
    struct moon_accept_share share;
    bool has_share;

    struct moon_listener *listeners;
    uv_timer_t accept_timer;
    bool accept_paused; /* accept_timer runs */
    bool accept_full;   /* as many are being turned away as may */
    bool accept_all;    /* drains: whoever is in the queue may come */
    bool full;          /* max_connections */
    uint64_t emfile_logged_ms, preface_logged_ms;
    uint64_t full_logged_ms, crowd_logged_ms, output_logged_ms;
    uint64_t output_tried_ms; /* when nobody could be given up */
    uint32_t preface_unlogged;

    struct moon_conn *conns;
    struct moon_exchange *exchanges; /* newest first */
    uint32_t conn_count, exchange_count;
    uint32_t away_count;     /* of the connections */
    struct moon_conn *sweep; /* see admission.c; NULL: from the first */
    struct moon_client_counts *clients; /* borrowed, or NULL */

    struct moon_conn *turn, **turn_tail;
    struct moon_netx *ended;
    uv_prepare_t prepare;
    uv_idle_t idle; /* keeps the loop from sleeping */
    bool turn_pending;

    struct moon_wheel wheel;
    struct moon_outpool outpool;
    struct moon_inbuf *free_in;
    struct moon_netx *free_x;
    uint32_t free_in_count, free_x_count;
    uint64_t body_memory;
    uint64_t now_ns; /* when the current event began */
    uint64_t drain_idle_ms;
    bool draining;

    uint32_t open_handles;
    bool destroying;
    void (*destroyed)(void *ctx);
    void *destroyed_ctx;

    struct moon_server_stats stats;
    char scratch[MOON_SCRATCH_BYTES];
};

static inline struct moon_netx *moon_netx(struct moon_exchange *x)
{
    return (struct moon_netx *)(void *)x;
}

/* exchange.c */
struct moon_netx *moon_netx_take(struct moon_conn *conn); /* may be NULL */
/* For the next function only. */
void moon_netx_end(struct moon_netx *n);
/* The connection lets go of its input or output side; the last holder ends
 * the exchange: on_end is called and it is recycled. */
static inline void moon_netx_drop(struct moon_netx *n, enum moon_hold hold)
{
    unsigned left = n->holds & ~(unsigned)hold;
    bool had = left != n->holds;
    n->holds = (uint8_t)left;
    if (had && left == 0 && !n->x.held_by_app)
        moon_netx_end(n);
}
/* The application let go; it is on the stack, so the end waits. */
void moon_netx_released(struct moon_netx *n);
void moon_netx_run_ended(struct moon_server *server);
void moon_netx_free_pool(struct moon_server *server);

struct moon_inbuf *moon_inbuf_take(struct moon_server *server, uint32_t cap);
void moon_inbuf_drop(struct moon_server *server, struct moon_inbuf *in);
void moon_inbuf_free_pool(struct moon_server *server);

/* conn.c */
void moon_conn_open(const struct moon_listener *listener, int fd,
                    const struct sockaddr *peer);
/* Whether the peer is one of the trusted proxies, by the configuration that
 * holds now. */
void moon_conn_set_trust(struct moon_conn *conn);
/* Closes at once. Tells the application and ends the exchanges. */
void moon_conn_close(struct moon_conn *conn);
/* Something changed: settle before the loop sleeps. Nothing to do while the
 * connection's own event runs, which ends in settle. */
void moon_conn_later(struct moon_conn *conn);
/* There is more to do for it, after the others had their turn. */
void moon_conn_requeue(struct moon_conn *conn);
void moon_conn_settle(struct moon_conn *conn);
void moon_conn_run_turn(struct moon_server *server);
void moon_conn_on_timer(struct moon_conn *conn);
bool moon_conn_is_idle(const struct moon_conn *conn);
/* Milliseconds that it has waited, of the `timeout_ms` its timer was set to; 0
 * if that is off. */
uint64_t moon_conn_waited_ms(const struct moon_conn *conn, uint64_t timeout_ms);
/* Says that no more is sent, and takes what still comes for a while. */
void moon_conn_linger(struct moon_conn *conn);
void moon_conn_set_wait(struct moon_conn *conn, enum moon_wait wait,
                        uint64_t timeout_ms);

/* conn_read.c */
bool moon_conn_wants_input(const struct moon_conn *conn);
void moon_conn_read(struct moon_conn *conn);
/* Up to `len` bytes; -1 when there are none (now, or any more: then eof or
 * broken is set). */
ssize_t moon_conn_read_fd(struct moon_conn *conn, char *to, size_t len);
void moon_conn_linger_read(struct moon_conn *conn);
/* Works off what has been read: heads, bodies, runs requests. */
void moon_conn_run_input(struct moon_conn *conn);
/* Refuses the current request; the connection closes after it. No effect on
 * one that is being answered. */
void moon_conn_refuse(struct moon_conn *conn, struct moon_netx *n, int status,
                      const char *why);

/* server.c */
/* For what anybody can cause: a line a second at most. `last_ms` is when there
 * was one, 0 at first. */
bool moon_server_may_log(const struct moon_server *server, uint64_t *last_ms);

/* admission.c */
/* May the new connection stay? If not it is being turned away, or closed. */
bool moon_admission_enter(struct moon_conn *conn);
/* Likewise, once a PROXY header has told whose it is. */
bool moon_admission_client(struct moon_conn *conn);
/* It closes. */
void moon_admission_forget(struct moon_conn *conn);
/* With another configuration. */
void moon_admission_configure(struct moon_server *server);
/* Connections without those that are being turned away. */
uint32_t moon_admission_live(const struct moon_server *server);
bool moon_admission_is_full(const struct moon_server *server);
/* As many are being turned away as may: the next ones wait in the kernel. */
bool moon_admission_must_pause(const struct moon_server *server);

/* output_memory.c */
/* More than output_memory is held: gives up answers that nobody takes. False:
 * that was not enough. It may be the answers of the connection that asks:
 * then that is broken, and takes no more. */
bool moon_output_make_room(struct moon_server *server);

/* conn_preface.c */
/* May this peer speak the PROXY protocol? Says so in the log if not. */
bool moon_preface_allowed(struct moon_server *server,
                          const struct moon_peer *peer);
/* Reads the PROXY header; what follows it is the first request. */
void moon_preface_read(struct moon_conn *conn);

/* conn_body.c */
/* Takes pieces of a request's body; ctx is the moon_netx. */
moon_body_sink moon_body_take;
/* All of the body came. MOON_EAGAIN: it is still being written to its file,
 * ask again; another error: the request is to be refused with n->refuse. */
enum moon_err moon_body_complete(struct moon_netx *n);
size_t moon_body_unread(const struct moon_netx *n);
enum moon_err moon_body_read(struct moon_exchange *x, size_t max,
                             struct moon_str *out);
void moon_body_release(struct moon_netx *n);

/* conn_write.c */
extern const struct moon_exchange_ops moon_conn_ops;
/* Writes what waits and reports answers that are out; false if the connection
 * was closed. */
bool moon_conn_flush(struct moon_conn *conn);
/* Minimal answer where the handler gave none. */
void moon_conn_answer_plain(struct moon_netx *n, int status, const char *why);
void moon_conn_send_continue(struct moon_conn *conn, struct moon_netx *n);
/* The peer stopped sending while its request runs: gone or half closed? */
void moon_conn_probe(struct moon_conn *conn);

/* listener.c */
void moon_listener_resume(struct moon_server *server);
void moon_listener_share(struct moon_server *server);
void moon_listener_close_all(struct moon_server *server, bool drain_queue);
void moon_listener_timer(uv_timer_t *timer);

/* server.c */
/* The turn list is worked off before the loop sleeps. */
void moon_server_wake(struct moon_server *server);
/* While destroying: a connection, listener or exchange went. Never frees on
 * the spot. */
void moon_server_one_less(struct moon_server *server);

#endif
