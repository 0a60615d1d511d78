/* The Redis client of one URL on one loop, whatever is behind it: one server,
 * sentinels, a cluster (state/redis_url.h).
 *
 * Commands share one pipelined link per master. What comes back belongs to the
 * command that asked, whatever was cancelled, late or lost in between. While a
 * first or a new link is made, commands wait for it within their deadline;
 * once that failed the client is down, and commands fail at once until one of
 * its probes succeeded. Nothing is sent twice, except what cannot have been
 * executed before and what is marked MOON_REDIS_READ_ONLY.
 *
 * Clients live in a registry of the thread, by URL and options, counted: links
 * outlive the code that uses them, so a reload finds them. One that nobody
 * refers to is closed after a while. An idle client does not keep the loop
 * alive. Loop thread only.
 *
 * Every call that says MOON_OK fires its callback once, later, from the loop,
 * unless it is cancelled; one that says anything else fires none, and
 * moon_redis_whyz has the reason as text. In every callback everything may be
 * called. */
#ifndef MOON_STATE_REDIS_H
#define MOON_STATE_REDIS_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <uv.h>

struct redisReply; /* <hiredis/hiredis.h> */

struct moon_redis;        /* a client */
struct moon_redis_op;     /* commands under way; dead once `done` fired */
struct moon_redis_script; /* source that is run by its hash */
struct moon_redis_own;    /* a link of one's own */
struct moon_redis_sub;    /* one subscription */

/* ---- clients ---- */

enum { MOON_REDIS_CLIENTS_MAX = 256 }; /* of a thread, with those that linger */

/* Zero means the default in brackets. Silence on a link counts as its end after
 * twice the time of the oldest command on it, and twice timeout_ms: what may
 * take long is for a link of one's own. */
struct moon_redis_options {
    uint64_t connect_timeout_ms; /* a link, with its handshake [1000] */
    uint64_t timeout_ms;         /* a command that names none [250] */
    uint32_t max_pending;        /* commands under way or waiting [10000] */
    uint64_t max_bytes;          /* of these commands [16 MiB] */
    uint64_t max_reply_bytes;    /* of one reply [64 MiB] */
    uint32_t max_own;            /* links of one's own in use [64] */
    uint64_t linger_ms;          /* kept without references [10000] */
    const char *namez; /* CLIENT SETNAME; copied, spaces become "-" [none] */
};

/* The client for the URL, new or found, with one reference for the caller. It
 * connects at once. `options` may be NULL. MOON_EINVAL: not such a URL;
 * MOON_EFULL: MOON_REDIS_CLIENTS_MAX others; told in `error`. */
MOON_MUST_CHECK enum moon_err moon_redis_get(
    uv_loop_t *loop, const char *urlz, const struct moon_redis_options *options,
    struct moon_redis **out, char *error, size_t error_size);
void moon_redis_ref(struct moon_redis *redis);
void moon_redis_unref(struct moon_redis *redis);
/* For the end of the loop, which must run until nothing is left: what is under
 * way fails with MOON_ECLOSED. References, links and subscriptions that are
 * held stay valid, but dead, until they are given back. */
void moon_redis_close_all(void);

/* Why the last call of this thread was refused. */
const char *moon_redis_whyz(void);

struct moon_redis_status {
    const char *urlz;  /* without the password */
    bool up;           /* every master can be asked */
    const char *whyz;  /* "" when up; "connecting" before anything is known */
    uint64_t since_ms; /* of uv_now: when `up` last changed */
    uint32_t pending;  /* commands under way or waiting */
    uint64_t commands, errors, timeouts; /* errors: replies that are one */
    uint64_t reconnects;                 /* links made after the first */
};
/* Text is borrowed until the loop runs again. */
void moon_redis_get_status(const struct moon_redis *redis,
                           struct moon_redis_status *status);

/* ---- commands ---- */

/* Binary safe, the name of the command first; borrowed for the call. */
struct moon_redis_command {
    const struct moon_str *argv;
    uint32_t argc;
    uint32_t key; /* index of the first key, 0: there is none */
};

enum {
    /* May be executed twice: is sent again when a link broke. */
    MOON_REDIS_READ_ONLY = 1,
    /* Several commands between MULTI and EXEC, which the client adds. */
    MOON_REDIS_ATOMIC = 2,
};

/* MOON_OK: **reply is the answer, also when that is an error of Redis (type
 * REDIS_REPLY_ERROR). Borrowed for the call, unless it is taken by setting
 * *reply to NULL; then moon_redis_reply_free.
 *
 * Of several commands it is an array of their replies; of MOON_REDIS_ATOMIC the
 * reply of EXEC, or the error for which Redis refused to queue one of them.
 *
 * Else no answer came, and `whyz` says why. MOON_ETIMEOUT: not in time;
 * MOON_ECLOSED: the link broke, or Redis is down; MOON_EFULL: too much was
 * under way. It may have been executed if it was sent; if it was not, the text
 * ends in "(not sent)". *reply is NULL, but of several commands whose answers
 * came in part: an array of those. */
typedef void moon_redis_done(void *ctx, enum moon_err err,
                             struct redisReply **reply, const char *whyz);
/* All of a reply that was taken, never a part of it; NULL is nothing. */
void moon_redis_reply_free(struct redisReply *reply);

struct moon_redis_how {
    uint32_t flags;
    uint64_t timeout_ms; /* for all of it; 0: the client's */
    moon_redis_done *done;
    void *ctx;
};

/* One command, or several one behind the other on one link, with nothing in
 * between. In a cluster their keys must all hash to one slot (MOON_EINVAL);
 * without a key they go to any master. At once: MOON_ECLOSED (Redis is down),
 * MOON_EFULL, MOON_ETOO_BIG, MOON_ENOMEM. `out` may be NULL. */
MOON_MUST_CHECK enum moon_err moon_redis_send(
    struct moon_redis *redis, const struct moon_redis_command *commands,
    uint32_t count, const struct moon_redis_how *how,
    struct moon_redis_op **out);
/* `done` will not fire. It is not sent if it was not yet; else it may be
 * executed, and its reply is dropped. */
void moon_redis_cancel(struct moon_redis_op *op);

/* ---- scripts ---- */

/* The script with this source, one reference for the caller; NULL: no memory.
 * Loaded into every master as soon as it is connected. */
MOON_MUST_CHECK struct moon_redis_script *moon_redis_script_get(
    struct moon_redis *redis, struct moon_str source);
void moon_redis_script_unref(struct moon_redis_script *script);

/* Runs it: `argv` is `keys` keys, then `args` other arguments. By its hash; if
 * a server does not know that, this one call sends the source. In a cluster
 * all keys must hash to one slot. */
MOON_MUST_CHECK enum moon_err moon_redis_eval(struct moon_redis_script *script,
                                              const struct moon_str *argv,
                                              uint32_t keys, uint32_t args,
                                              const struct moon_redis_how *how,
                                              struct moon_redis_op **out);

/* ---- a link of one's own: for what blocks or has state (BLPOP, WATCH) ---- */

/* Once, unless the link is closed before: MOON_OK, and it can be used; or it
 * could not be made, and must be closed. */
typedef void moon_redis_own_ready(void *ctx, enum moon_err err,
                                  const char *whyz);

/* An idle one, or a new one, to the master of `key` (none: any master).
 * *out is the caller's until moon_redis_own_give or _close. At once:
 * MOON_EFULL, MOON_ECLOSED, MOON_ENOMEM. timeout_ms 0: the client's. */
MOON_MUST_CHECK enum moon_err moon_redis_own_take(
    struct moon_redis *redis, struct moon_str key, uint64_t timeout_ms,
    moon_redis_own_ready *ready, void *ctx, struct moon_redis_own **out);
/* As moon_redis_send, on this link; nothing is ever sent again, and replies
 * that point to another server are delivered as they are. */
MOON_MUST_CHECK enum moon_err moon_redis_own_send(
    struct moon_redis_own *own, const struct moon_redis_command *commands,
    uint32_t count, const struct moon_redis_how *how,
    struct moon_redis_op **out);
/* Kept for the next, once it proved to be out of MULTI and WATCH and on the
 * database of the URL; closed if something is under way. */
void moon_redis_own_give(struct moon_redis_own *own);
/* What is under way fails. */
void moon_redis_own_close(struct moon_redis_own *own);

/* ---- subscriptions ---- */

enum moon_redis_news {
    MOON_REDIS_SUBSCRIBED, /* from now on messages arrive; also after LOST */
    MOON_REDIS_LOST,       /* the link broke: messages may be missing */
    MOON_REDIS_REFUSED,    /* Redis said no, see whyz; no more news */
};

/* Text is borrowed for the call. `channel` is where it was published, also for
 * patterns. */
typedef void moon_redis_on_message(void *ctx, struct moon_str channel,
                                   struct moon_str payload);
typedef void moon_redis_on_news(void *ctx, enum moon_redis_news news,
                                const char *whyz);

struct moon_redis_listener {
    moon_redis_on_message *on_message;
    moon_redis_on_news *on_news; /* may be NULL */
    void *ctx;
};

/* All of a client share one link, which is made again, with all subscriptions,
 * whenever it breaks. Fails at once only with MOON_ENOMEM and MOON_ECLOSED
 * (after moon_redis_close_all). */
MOON_MUST_CHECK enum moon_err moon_redis_subscribe(
    struct moon_redis *redis, struct moon_str name, bool pattern,
    const struct moon_redis_listener *listener, struct moon_redis_sub **out);
/* Nothing of it is called any more. */
void moon_redis_unsubscribe(struct moon_redis_sub *sub);

#endif
