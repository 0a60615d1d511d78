/* One request and its answer: the object that the network side and the
 * application side share.
 *
 * Two holders: the connection, from the first byte of the request until its
 * response left or the client did; and the application, from `run` until it
 * calls ops->release. The exchange is recycled when both have let go. All on
 * the loop thread of one worker.
 *
 * Directions: the application answers through `ops` (set by the connection);
 * the connection reports through `app` (set by the server). No callback is
 * made from inside the call that caused it, except where said. */
#ifndef MOON_HTTP_EXCHANGE_H
#define MOON_HTTP_EXCHANGE_H

#include "http/app.h"
#include "http/client.h"
#include "http/http_in.h"
#include "http/response.h"

struct moon_conn;
struct moon_exchange;
struct moon_generation;
struct moon_held_session;
struct moon_quarantine_pass;
struct moon_limit_hold;
struct moon_task;

/* Body of an answer given at once. */
struct moon_out_body {
    struct moon_str bytes;        /* copied by respond */
    struct moon_str content_type; /* default, if no field says otherwise */
    int file_fd;                  /* -1, or a file: ownership moves here */
    uint64_t file_from, file_length;
};

struct moon_exchange_ops {
    /* Sends the whole response: head from x->res, then the body. Once per
     * exchange; later calls are refused (MOON_EEXISTS). When the client is
     * gone the body is dropped and MOON_ECLOSED comes back. */
    enum moon_err (*respond)(struct moon_exchange *x,
                             struct moon_out_body *body);
    /* Sends the head and leaves the body open (chunked, or until close). */
    enum moon_err (*stream_begin)(struct moon_exchange *x);
    /* Appends to an open body. MOON_EAGAIN: taken, but wait for on_writable
     * before the next; MOON_ECLOSED: the client is gone. */
    enum moon_err (*stream_write)(struct moon_exchange *x,
                                  struct moon_str bytes);
    /* Buffered output leaves now (before the task sleeps). */
    void (*stream_flush)(struct moon_exchange *x);
    /* `complete` false cuts the body off so that the client can tell. */
    void (*stream_end)(struct moon_exchange *x, bool complete);
    /* Streamed request bodies: up to `max` bytes into the caller's hands,
     * borrowed until the next call. MOON_EAGAIN: wait for on_readable;
     * MOON_OK with empty bytes: the end; MOON_ECLOSED: cut off. */
    enum moon_err (*body_read)(struct moon_exchange *x, size_t max,
                               struct moon_str *out);
    /* The application takes hold outside of on_run, to answer an error in
     * Lua: what is left of the request is not read. */
    void (*hold)(struct moon_exchange *x);
    /* The application lets go; x must not be touched afterwards. If nothing
     * was sent yet the connection is closed. */
    void (*release)(struct moon_exchange *x);
};

enum moon_exchange_state {
    MOON_X_HEAD,     /* receiving the head */
    MOON_X_BODY,     /* receiving a buffered body */
    MOON_X_RUNNING,  /* with the application, nothing sent */
    MOON_X_STREAM,   /* response head out, body open */
    MOON_X_ANSWERED, /* response complete, maybe not yet written out */
};

struct moon_request_body {
    enum moon_body_mode mode;
    uint64_t limit_bytes;
    uint64_t size;          /* bytes received */
    bool complete;          /* all of it is here */
    bool failed;            /* cut off or refused */
    struct moon_str bytes;  /* buffered: in the read buffer or in `memory` */
    struct moon_buf memory; /* owned: counts against body_memory */
    int fd;                 /* owned: spooled to an unlinked file, or -1 */
};

enum { MOON_REQUEST_ID_TEXT = 32 };

struct moon_exchange {
    /* who holds it */
    struct moon_conn *conn; /* NULL once the client is gone */
    bool held_by_app;
    enum moon_exchange_state state;
    const struct moon_exchange_ops *ops;

    struct moon_request req;
    struct moon_response res;
    struct moon_request_body body;
    struct moon_http_in in;
    struct moon_arena arena;

    /* routing; set by on_head */
    struct moon_generation *generation; /* counted reference */
    uint64_t generation_number;
    const struct moon_app *app_table; /* the generation's */
    const struct moon_route *route;   /* NULL: an automatic answer */
    int scope;
    int chain;            /* what on_run enters: the route's, or a hook's */
    uint16_t auto_status; /* the status a hook's chain is to answer, or 0 */
    uint64_t delay_ns;    /* a leaky bucket's: run it so much later */
    struct moon_match match;
    struct moon_str path; /* normalised */

    /* identity: the other end of the connection, and what is found out with
     * moon_exchange_client */
    struct moon_peer peer;
    const struct moon_trust *trust; /* NULL: of no proxy */
    struct moon_client client;
    struct moon_str request_id; /* made here, or a trusted proxy's */
    char request_id_text[MOON_REQUEST_ID_TEXT];

    /* the application's */
    struct moon_task *task;            /* the task that runs it now; vm's */
    struct moon_held_session *session; /* in the arena; vm's; or NULL */
    /* In the arena; vm's; NULL: its route is not watched, or not reached. */
    struct moon_quarantine_pass *quarantine;
    struct moon_limit_hold *limits; /* held until it is over; vm's; or NULL */
    bool client_gone;               /* told, or found on write */
    bool draining;                  /* the server asks streams to end */

    /* for the log and the counters */
    uint64_t started_ns; /* first byte */
    uint64_t elapsed_ns; /* from then until the answer was written, or the
                            client left; 0 before */
    /* Since started_ns; 0: did not happen. It was run; the head of a streamed
     * answer was given; the client did not take more at once. */
    uint64_t run_ns, head_ns, blocked_ns;
    bool streamed;         /* the body was sent in pieces: slow on purpose */
    uint64_t bytes_out;    /* body bytes */
    uint16_t status_sent;  /* 0: nothing sent */
    const char *wait_what; /* static text: what the task waits on, or NULL */

    struct moon_exchange *prev, *next; /* all live ones, for status */
};

/* Whose request it is, after the trusted-proxy rule. */
static inline const struct moon_client *moon_exchange_client(
    struct moon_exchange *x)
{
    if (!x->client.known)
        moon_client_find(x);
    return &x->client;
}

/* The client's address as text. */
static inline struct moon_str moon_exchange_ip(struct moon_exchange *x)
{
    (void)moon_exchange_client(x);
    struct moon_client *client = &x->client;
    if (client->ip.ptr == NULL)
        client->ip = moon_peer_ip(&client->from, client->ip_text);
    return client->ip;
}

#endif
