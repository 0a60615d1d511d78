#include "state/wire.h"

#include "base/buf.h"
#include "link/dial.h"
#include "state/wire_line.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads of one turn are bounded, so that a fast store cannot hold the loop. A
 * drained buffer that grew beyond OUT_KEEP is given back. Deadlines are looked
 * at no more often than every GAP_MS. A turn that lasts LATE_MS is not the
 * fault of those who wait for its end to be written. */
enum {
    READ_BYTES = 16 << 10,
    READ_ROUNDS = 16,
    LATE_MS = 20,
    OUT_KEEP = 64 << 10,
    GAP_MS = 4,
    OWN_HANDLES = 3, /* the timer, prepare and idle */
};

enum state { DIALLING, OPEN, OVER };

struct moon_wire {
    uv_loop_t *loop;
    struct moon_wire_options o; /* `host` is not used after the start */
    enum state state;
    bool finishing;
    bool turn;             /* prepare and idle are started */
    uint32_t open_handles; /* freed at 0 */
    struct moon_dial *dial;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_idle_t idle; /* keeps the loop from sleeping before a flush */
    uv_poll_t poll; /* while OPEN */
    int fd;         /* the same */
    int events;     /* what poll watches */

    void *reader;
    size_t unanswered_bytes; /* read since the last whole reply */
    uint64_t heard_ms;       /* when bytes came last */
    uint64_t alarm_ms;       /* when the timer fires; UINT64_MAX: never */
    uint64_t turn_ms;        /* when this turn's first request came */

    struct moon_buf out;
    size_t out_at;   /* bytes before were written */
    uint64_t queued; /* in all: the end of the stream of output */
    struct moon_wire_line line;

    enum moon_err err; /* what ended it */
    char why[MOON_DIAL_ERROR_SIZE];
};

uint32_t moon_wire_pending(const struct moon_wire *wire)
{
    return (uint32_t)(wire->line.tail - wire->line.head);
}

/* ---- the end ---- */

static void describe(struct moon_wire *wire, const char *whyz)
{
    (void)snprintf(wire->why, sizeof(wire->why), "%s", whyz);
}

/* A copy of the place, for the callback may move the line. */
static void tell(struct moon_wire *wire, struct moon_wire_place place,
                 struct moon_wire_result *result)
{
    if (place.done != NULL)
        place.done(place.ctx, result);
    if (result->reply != NULL)
        wire->o.codec->release(result->reply);
}

static struct moon_wire_place leave(struct moon_wire *wire)
{
    struct moon_wire_place place = moon_wire_line_leave(&wire->line);
    if (moon_wire_line_empty(&wire->line) && wire->state == OPEN)
        uv_unref((uv_handle_t *)&wire->poll);
    return place;
}

static void fail_all(struct moon_wire *wire)
{
    uint64_t written = wire->queued - (wire->out.len - wire->out_at);
    while (!moon_wire_line_empty(&wire->line)) {
        struct moon_wire_place place = leave(wire);
        struct moon_wire_result result = {
            .err = wire->err,
            .whyz = wire->why,
            .untouched = place.begin >= written,
        };
        tell(wire, place, &result);
        /* A reply that cannot be read is the fault of the oldest alone. */
        if (wire->err == MOON_EPROTO || wire->err == MOON_ETOO_BIG)
            wire->err = MOON_ECLOSED;
    }
}

static void handle_closed(uv_handle_t *handle)
{
    struct moon_wire *wire = handle->data;
    if (--wire->open_handles > 0)
        return;
    fail_all(wire);
    wire->o.codec->destroy(wire->reader);
    moon_buf_deinit(&wire->out);
    moon_wire_line_deinit(&wire->line);
    struct moon_wire_owner owner = wire->o.owner;
    free(wire);
    owner.on_gone(owner.ctx);
}

/* Lets go of the connection, whatever it was doing. */
static void disconnect(struct moon_wire *wire)
{
    if (wire->dial != NULL)
        moon_dial_cancel(wire->dial);
    wire->dial = NULL;
    if (wire->state == OPEN) {
        uv_close((uv_handle_t *)&wire->poll, handle_closed);
        (void)close(wire->fd);
    }
    wire->fd = -1;
    wire->state = OVER;
    (void)uv_timer_stop(&wire->timer);
}

/* From the loop only. */
static void fail(struct moon_wire *wire, enum moon_err err)
{
    if (wire->state == OVER)
        return;
    disconnect(wire);
    wire->err = err == MOON_OK ? MOON_ECLOSED : err;
    wire->o.owner.on_down(wire->o.owner.ctx, err, wire->why);
    fail_all(wire);
}

static void fail_sys(struct moon_wire *wire, int error)
{
    if (wire->state == OVER)
        return;
    moon_dial_describe(-error, wire->why, sizeof(wire->why));
    enum moon_err err = moon_err_from_errno(error);
    fail(wire, err == MOON_ENOMEM || err == MOON_ECLOSED ? err : MOON_ESYS);
}

/* Asked to finish, and nothing is to come any more? */
static bool end_if_finished(struct moon_wire *wire)
{
    if (!wire->finishing || !moon_wire_line_empty(&wire->line) ||
        wire->state == OVER)
        return false;
    describe(wire, "finished");
    fail(wire, MOON_OK);
    return true;
}

void moon_wire_destroy(struct moon_wire *wire)
{
    if (wire->state != OVER) {
        disconnect(wire);
        wire->err = MOON_ECLOSED;
        describe(wire, "closed");
    }
    uv_close((uv_handle_t *)&wire->timer, handle_closed);
    uv_close((uv_handle_t *)&wire->prepare, handle_closed);
    uv_close((uv_handle_t *)&wire->idle, handle_closed);
}

/* ---- reading ---- */

static void deliver(struct moon_wire *wire, void *reply)
{
    const struct moon_wire_owner *owner = &wire->o.owner;
    wire->unanswered_bytes = 0;
    if (owner->on_push != NULL && owner->on_push(owner->ctx, reply)) {
        wire->o.codec->release(reply);
        return;
    }
    if (moon_wire_line_empty(&wire->line)) {
        wire->o.codec->release(reply);
        describe(wire, "a reply that nobody asked for");
        fail(wire, MOON_EPROTO);
        return;
    }
    struct moon_wire_result result = {.err = MOON_OK, .reply = reply};
    tell(wire, leave(wire), &result);
}

static void hear(struct moon_wire *wire, const char *bytes, size_t len)
{
    void *reply = NULL;
    const char *whyz = "out of memory";
    wire->heard_ms = uv_now(wire->loop);
    wire->unanswered_bytes += len;
    enum moon_err err = wire->o.codec->feed(wire->reader, bytes, len);
    while (err == MOON_OK) {
        err = wire->o.codec->next(wire->reader, &reply, &whyz);
        if (err != MOON_OK)
            break;
        deliver(wire, reply);
        if (wire->state != OPEN || end_if_finished(wire))
            return;
    }
    if (err != MOON_EAGAIN) {
        describe(wire, whyz);
        fail(wire, err);
    } else if (wire->unanswered_bytes > wire->o.max_reply_bytes) {
        (void)snprintf(wire->why, sizeof(wire->why),
                       "a reply of more than %zu bytes",
                       wire->o.max_reply_bytes);
        fail(wire, MOON_ETOO_BIG);
    }
}

static void read_all(struct moon_wire *wire)
{
    char bytes[READ_BYTES];
    for (int round = 0; round < READ_ROUNDS && wire->state == OPEN; round++) {
        ssize_t n = recv(wire->fd, bytes, sizeof(bytes), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            fail_sys(wire, errno);
            return;
        }
        if (n == 0) {
            describe(wire, "closed");
            fail(wire, MOON_ECLOSED);
            return;
        }
        hear(wire, bytes, (size_t)n);
        if ((size_t)n < sizeof(bytes))
            return; /* that was all */
    }
}

/* ---- writing ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct moon_wire *wire, int events)
{
    if (events != wire->events)
        (void)uv_poll_start(&wire->poll, events, on_poll);
    wire->events = events;
}

static void flush(struct moon_wire *wire)
{
    while (wire->out_at < wire->out.len) {
        ssize_t n = send(wire->fd, wire->out.ptr + wire->out_at,
                         wire->out.len - wire->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            watch(wire, UV_READABLE | UV_WRITABLE);
            return;
        }
        if (n < 0) {
            int error = errno;
            read_all(wire); /* its last words may say why */
            fail_sys(wire, error);
            return;
        }
        wire->out_at += (size_t)n;
    }
    wire->out.len = wire->out_at = 0;
    if (wire->out.cap > OUT_KEEP)
        moon_buf_deinit(&wire->out);
    watch(wire, UV_READABLE);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct moon_wire *wire = poll->data;
    if (status < 0) {
        /* An error on the socket: libuv stopped, the calls say which. */
        wire->events = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if ((events & UV_READABLE) != 0)
        read_all(wire);
    if ((events & UV_WRITABLE) != 0 && wire->state == OPEN)
        flush(wire);
}

/* ---- turns: what was queued is written before the loop sleeps ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

/* Their time begins when they are written, if that is long after they came. */
static void restart_unwritten(struct moon_wire *wire)
{
    uint64_t now = uv_now(wire->loop);
    uint64_t written = wire->queued - (wire->out.len - wire->out_at);
    if (now - wire->turn_ms < LATE_MS)
        return;
    for (uint64_t i = wire->line.tail; i > wire->line.head; i--) {
        struct moon_wire_place *place = moon_wire_line_at(&wire->line, i - 1);
        if (place->begin < written)
            break;
        place->start_ms = now;
    }
}

static void end_turn(struct moon_wire *wire)
{
    if (!wire->turn)
        return;
    wire->turn = false;
    (void)uv_prepare_stop(&wire->prepare);
    (void)uv_idle_stop(&wire->idle);
    if (wire->state == OPEN)
        restart_unwritten(wire);
    if (wire->state == DIALLING && wire->dial == NULL)
        fail(wire, wire->err); /* could not even begin */
    if (!end_if_finished(wire) && wire->state == OPEN)
        flush(wire);
}

static void on_prepare(uv_prepare_t *prepare)
{
    end_turn(prepare->data);
}

/* Requests may come while prepare callbacks run, after which the loop would
 * sleep: the idle handle makes it turn once more. */
static void wake(struct moon_wire *wire)
{
    if (wire->turn)
        return;
    wire->turn = true;
    wire->turn_ms = uv_now(wire->loop);
    (void)uv_prepare_start(&wire->prepare, on_prepare);
    (void)uv_idle_start(&wire->idle, on_idle);
}

/* ---- deadlines ---- */

static void on_timer(uv_timer_t *timer);

static void set_alarm(struct moon_wire *wire, uint64_t at_ms)
{
    uint64_t now = uv_now(wire->loop);
    wire->alarm_ms = at_ms;
    if (at_ms != UINT64_MAX)
        (void)uv_timer_start(&wire->timer, on_timer,
                             at_ms > now ? at_ms - now : 0, 0);
}

/* When the connection counts as dead if nothing is heard until then. */
static uint64_t dead_ms(const struct moon_wire *wire)
{
    if (moon_wire_line_empty(&wire->line))
        return UINT64_MAX;
    const struct moon_wire_place *oldest =
        moon_wire_line_at(&wire->line, wire->line.head);
    uint64_t since =
        oldest->start_ms > wire->heard_ms ? oldest->start_ms : wire->heard_ms;
    uint64_t patience = oldest->timeout_ms > wire->o.patience_ms
                            ? oldest->timeout_ms
                            : wire->o.patience_ms;
    return moon_wire_later(since, moon_wire_later(patience, patience));
}

static void expire(struct moon_wire *wire, uint64_t now)
{
    uint64_t end = wire->line.tail;
    for (uint64_t i = wire->line.head; i < end && wire->state != OVER; i++) {
        struct moon_wire_place *place = moon_wire_line_at(&wire->line, i);
        if (place->done == NULL || moon_wire_due(place) > now)
            continue;
        struct moon_wire_result result = {.err = MOON_ETIMEOUT,
                                          .whyz = "timeout"};
        struct moon_wire_place copy = *place;
        place->done = NULL;
        tell(wire, copy, &result);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct moon_wire *wire = timer->data;
    /* What is late here may be the loop: what was asked for in its last turn
     * was not written yet, and answers may wait in the socket. */
    end_turn(wire);
    if (wire->state == OPEN)
        read_all(wire);
    uint64_t now = uv_now(wire->loop);
    if (now - wire->alarm_ms > wire->o.patience_ms)
        wire->heard_ms = now; /* it stood still, and could hear nothing */
    expire(wire, now);
    if (wire->state == OVER)
        return;
    uint64_t dead = dead_ms(wire);
    if (dead <= now) {
        describe(wire, "no answer");
        fail(wire, MOON_ETIMEOUT);
        return;
    }
    uint64_t due = moon_wire_line_first_due(&wire->line);
    uint64_t at = due < dead ? due : dead;
    set_alarm(wire, at < now + GAP_MS ? now + GAP_MS : at);
}

/* ---- connecting ---- */

static void open_fd(struct moon_wire *wire, int fd)
{
    int code = uv_poll_init(wire->loop, &wire->poll, fd);
    if (code != 0) {
        (void)close(fd);
        wire->err = MOON_ESYS;
        moon_dial_describe(code, wire->why, sizeof(wire->why));
        return;
    }
    wire->poll.data = wire;
    wire->open_handles++;
    wire->fd = fd;
    wire->state = OPEN;
    wire->heard_ms = uv_now(wire->loop);
    if (moon_wire_line_empty(&wire->line))
        uv_unref((uv_handle_t *)&wire->poll);
}

static void on_dial(void *ctx, enum moon_err err, int fd, const char *whyz)
{
    struct moon_wire *wire = ctx;
    wire->dial = NULL;
    wire->err = err;
    describe(wire, whyz);
    if (err == MOON_OK)
        open_fd(wire, fd);
    if (wire->state == OPEN)
        flush(wire);
    else
        fail(wire, wire->err);
}

static void start_dial(struct moon_wire *wire)
{
    int fd = -1;
    enum moon_err err = moon_dial_start(wire->loop, wire->o.host, wire->o.port,
                                        wire->o.connect_timeout_ms, on_dial,
                                        wire, &wire->dial, &fd, wire->why);
    wire->o.host = MOON_STR_NONE;
    if (err == MOON_EAGAIN)
        return;
    wire->dial = NULL;
    wire->err = err;
    if (err == MOON_OK)
        open_fd(wire, fd);
    wake(wire);
}

struct moon_wire *moon_wire_create(uv_loop_t *loop,
                                   const struct moon_wire_options *options)
{
    struct moon_wire *wire = calloc(1, sizeof(*wire));
    if (wire == NULL)
        return NULL;
    wire->reader = options->codec->create();
    if (wire->reader == NULL) {
        free(wire);
        return NULL;
    }
    wire->loop = loop;
    wire->o = *options;
    wire->fd = -1;
    wire->alarm_ms = UINT64_MAX;
    (void)uv_timer_init(loop, &wire->timer);
    (void)uv_prepare_init(loop, &wire->prepare);
    (void)uv_idle_init(loop, &wire->idle);
    wire->timer.data = wire->prepare.data = wire->idle.data = wire;
    wire->open_handles = OWN_HANDLES;
    uv_unref((uv_handle_t *)&wire->timer);
    uv_unref((uv_handle_t *)&wire->prepare);
    start_dial(wire);
    return wire;
}

/* ---- requests ---- */

static bool add_bytes(struct moon_wire *wire, struct moon_str bytes)
{
    struct moon_buf *out = &wire->out;
    if (wire->out_at > OUT_KEEP && wire->out_at > out->len / 2) {
        memmove(out->ptr, out->ptr + wire->out_at, out->len - wire->out_at);
        out->len -= wire->out_at;
        wire->out_at = 0;
    }
    moon_buf_add_str(out, bytes);
    if (out->failed) {
        out->failed = false; /* what is in it is whole */
        return false;
    }
    wire->queued += bytes.len;
    return true;
}

enum moon_err moon_wire_send(struct moon_wire *wire, struct moon_str bytes,
                             uint32_t replies, uint64_t timeout_ms,
                             moon_wire_done *done, void *ctx, uint64_t *ticket)
{
    if (wire->state == OVER || wire->finishing)
        return MOON_ECLOSED;
    if (bytes.len > wire->o.max_out_bytes)
        return MOON_ETOO_BIG;
    if (replies > wire->o.max_pending - moon_wire_pending(wire) ||
        bytes.len > wire->o.max_out_bytes - (wire->out.len - wire->out_at))
        return MOON_EFULL;
    uint64_t begin = wire->queued;
    if (!moon_wire_line_widen(&wire->line, replies) || !add_bytes(wire, bytes))
        return MOON_ENOMEM;
    if (!wire->turn)
        uv_update_time(wire->loop); /* once a turn is exact enough */
    struct moon_wire_place place = {
        .done = done,
        .ctx = ctx,
        .begin = begin,
        .start_ms = uv_now(wire->loop),
        .timeout_ms = timeout_ms,
    };
    if (moon_wire_line_empty(&wire->line) && wire->state == OPEN)
        uv_ref((uv_handle_t *)&wire->poll);
    *ticket = wire->line.tail;
    moon_wire_line_join(&wire->line, &place, replies);
    if (moon_wire_due(&place) < wire->alarm_ms)
        set_alarm(wire, moon_wire_due(&place));
    wake(wire);
    return MOON_OK;
}

void moon_wire_finish(struct moon_wire *wire)
{
    wire->finishing = true;
    if (wire->state != OVER)
        wake(wire);
}

void moon_wire_cancel(struct moon_wire *wire, uint64_t ticket, uint32_t replies)
{
    moon_wire_line_cancel(&wire->line, ticket, replies);
}
