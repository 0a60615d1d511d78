#include "link/link.h"

#include "base/buf.h"
#include "link/dial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads of one turn are bounded, so that a fast peer cannot hold the loop; a
 * drained buffer bigger than BUFFER_KEEP is given back. */
enum { READ_BYTES = 16 << 10, READ_ROUNDS = 16, BUFFER_KEEP = 64 << 10 };

struct moon_link {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    int fd;
    int events;    /* what poll watches */
    uint32_t open; /* handles; freed at 0 */
    moon_link_done *done;
    void *owner;
    bool idle, broken, eof;
    bool waiting[2]; /* by side */
    uint64_t deadline_ms[2];

    struct moon_buf in, out;
    size_t in_start, out_start; /* bytes before were used */
    size_t scanned;             /* from in_start, known not to match */
    size_t limit;
    enum moon_link_kind kind;
    size_t size;
    struct moon_buf pattern;
    size_t taken_from, taken_len;
    bool met;
    char why[MOON_DIAL_ERROR_SIZE];
};

/* ---- life ---- */

struct moon_link *moon_link_create(uv_loop_t *loop, int fd)
{
    struct moon_link *link = calloc(1, sizeof(*link));
    if (link == NULL || uv_poll_init(loop, &link->poll, fd) != 0) {
        free(link);
        (void)close(fd);
        return NULL;
    }
    (void)uv_timer_init(loop, &link->timer);
    link->poll.data = link->timer.data = link;
    link->open = 2;
    link->loop = loop;
    link->fd = fd;
    link->limit = MOON_LINK_LIMIT;
    return link;
}

void moon_link_set_owner(struct moon_link *link, moon_link_done *done,
                         void *owner)
{
    link->done = done;
    link->owner = owner;
}

static void handle_closed(uv_handle_t *handle)
{
    struct moon_link *link = handle->data;
    if (--link->open > 0)
        return;
    moon_buf_deinit(&link->in);
    moon_buf_deinit(&link->out);
    moon_buf_deinit(&link->pattern);
    free(link);
}

void moon_link_close(struct moon_link *link)
{
    link->waiting[MOON_LINK_READ] = link->waiting[MOON_LINK_WRITE] = false;
    uv_close((uv_handle_t *)&link->poll, handle_closed);
    uv_close((uv_handle_t *)&link->timer, handle_closed);
    (void)close(link->fd);
    link->fd = -1;
}

/* ---- failure ---- */

static enum moon_err fail(struct moon_link *link, enum moon_err err,
                          const char *whyz)
{
    (void)snprintf(link->why, sizeof(link->why), "%s", whyz);
    return err;
}

static enum moon_err fail_sys(struct moon_link *link, int error)
{
    link->broken = true;
    moon_dial_describe(-error, link->why, sizeof(link->why));
    return error == EPIPE ? MOON_ECLOSED : MOON_ESYS;
}

const char *moon_link_whyz(const struct moon_link *link)
{
    return link->why;
}

/* ---- waiting ---- */

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);

static void watch(struct moon_link *link, int events)
{
    if (events == link->events)
        return;
    if (events != 0)
        (void)uv_poll_start(&link->poll, events, on_poll);
    else
        (void)uv_poll_stop(&link->poll);
    link->events = events;
}

/* Watches what is waited for, until the nearer deadline. Reading stays watched
 * when nobody reads, until something arrives: each change costs system calls,
 * and most often the next thing is another read, or to be idle. */
static void arm(struct moon_link *link, int unasked)
{
    static const int masks[2] = {UV_READABLE, UV_WRITABLE};
    uint64_t first = UINT64_MAX;
    int events = 0;
    for (int side = 0; side < 2; side++) {
        if (!link->waiting[side])
            continue;
        events |= masks[side];
        if (link->deadline_ms[side] < first)
            first = link->deadline_ms[side];
    }
    watch(link, events | (link->events & UV_READABLE & ~unasked));
    if (events == 0) {
        (void)uv_timer_stop(&link->timer);
        return;
    }
    uint64_t now = uv_now(link->loop);
    (void)uv_timer_start(&link->timer, on_timer, first > now ? first - now : 0,
                         0);
}

static enum moon_err begin_wait(struct moon_link *link,
                                enum moon_link_side side, uint64_t timeout_ms)
{
    uv_update_time(link->loop);
    link->waiting[side] = true;
    link->deadline_ms[side] = uv_now(link->loop) + timeout_ms;
    arm(link, 0);
    return MOON_EAGAIN;
}

static void complete(struct moon_link *link, enum moon_link_side side,
                     enum moon_err err)
{
    link->waiting[side] = false;
    link->done(link->owner, side, err);
}

static void end_idle(struct moon_link *link, enum moon_err err)
{
    moon_link_resume(link);
    link->done(link->owner, MOON_LINK_READ, err);
}

/* ---- reading ---- */

static size_t unread(const struct moon_link *link)
{
    return link->in.len - link->in_start;
}

static void take(struct moon_link *link, size_t len, size_t skip)
{
    link->taken_from = link->in_start;
    link->taken_len = len;
    link->in_start += len + skip;
    link->scanned = 0;
}

/* How many bytes at the end may be the start of the pattern. */
static size_t held_back(const struct moon_link *link, size_t have)
{
    const char *data = link->in.ptr + link->in_start;
    size_t keep = link->pattern.len - 1;
    for (keep = keep < have ? keep : have; keep > 0; keep--) {
        if (memcmp(data + have - keep, link->pattern.ptr, keep) == 0)
            break;
    }
    return keep;
}

static bool met_pattern(struct moon_link *link)
{
    size_t have = unread(link), width = link->pattern.len;
    const char *data = link->in.ptr + link->in_start;
    if (have == 0)
        return false;
    const char *hit = memmem(data + link->scanned, have - link->scanned,
                             link->pattern.ptr, width);
    size_t safe =
        hit != NULL ? (size_t)(hit - data) : have - held_back(link, have);
    if (hit != NULL && safe <= link->size) {
        take(link, safe, width);
        link->met = true;
        return true;
    }
    if (safe >= link->size) {
        take(link, link->size, 0);
        return true;
    }
    link->scanned = safe;
    return false;
}

static bool met_line(struct moon_link *link)
{
    size_t have = unread(link);
    const char *data = link->in.ptr + link->in_start;
    const char *hit = have > link->scanned ? memchr(data + link->scanned, '\n',
                                                    have - link->scanned)
                                           : NULL;
    if (hit != NULL)
        take(link, (size_t)(hit - data), 1);
    else
        link->scanned = have;
    return hit != NULL;
}

/* Takes from the buffer what is wanted, if it is there. */
static bool met_want(struct moon_link *link)
{
    size_t have = unread(link);
    switch (link->kind) {
    case MOON_LINK_LINE:
        return met_line(link);
    case MOON_LINK_UNTIL:
        return met_pattern(link);
    case MOON_LINK_ALL:
        if (link->eof)
            take(link, have, 0);
        return link->eof;
    case MOON_LINK_ANY:
        if (have > 0)
            take(link, have < link->size ? have : link->size, 0);
        return have > 0;
    default:
        if (have >= link->size)
            take(link, link->size, 0);
        return have >= link->size;
    }
}

/* Room for one read, after what is used was dropped; NULL: no memory. */
static char *make_room(struct moon_link *link, size_t bytes)
{
    size_t have = unread(link);
    if (link->in_start > 0) {
        if (have > 0)
            memmove(link->in.ptr, link->in.ptr + link->in_start, have);
        link->in.len = have;
        link->in_start = 0;
    }
    if (have == 0 && link->in.cap > BUFFER_KEEP)
        moon_buf_deinit(&link->in);
    return moon_buf_reserve(&link->in, bytes);
}

static enum moon_err read_some(struct moon_link *link)
{
    size_t bytes = READ_BYTES;
    if (link->kind == MOON_LINK_SIZE && link->size - unread(link) > bytes)
        bytes = link->size - unread(link);
    if (bytes > READ_BYTES * READ_ROUNDS)
        bytes = READ_BYTES * READ_ROUNDS;
    char *to = make_room(link, bytes);
    if (to == NULL)
        return fail_sys(link, ENOMEM);
    ssize_t n;
    do {
        n = recv(link->fd, to, bytes, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? MOON_EAGAIN : fail_sys(link, errno);
    link->in.len += (size_t)n;
    link->eof = n == 0;
    return MOON_OK;
}

/* Reads until the want is met. On failure what came before is taken. */
static enum moon_err pump_in(struct moon_link *link)
{
    enum moon_err err = MOON_OK;
    for (int round = 0; round < READ_ROUNDS; round++) {
        if (met_want(link))
            return MOON_OK;
        if (unread(link) >= link->limit)
            return fail(link, MOON_ETOO_BIG, "too long");
        if (link->eof)
            err = fail(link, MOON_ECLOSED, "closed");
        else
            err = read_some(link);
        if (err == MOON_EAGAIN)
            return err;
        if (err != MOON_OK) {
            take(link, unread(link), 0);
            return err;
        }
    }
    return MOON_EAGAIN; /* more is there: the loop comes back at once */
}

enum moon_err moon_link_receive(struct moon_link *link,
                                const struct moon_link_want *want,
                                uint64_t timeout_ms)
{
    link->kind = want->kind;
    link->size = want->size;
    link->met = false;
    link->scanned = link->taken_len = 0;
    if (want->kind == MOON_LINK_SIZE && want->size > link->limit)
        return fail(link, MOON_ETOO_BIG, "too long");
    if (want->kind == MOON_LINK_UNTIL) {
        link->pattern.len = 0;
        moon_buf_add_str(&link->pattern, want->pattern);
        if (link->pattern.failed)
            return fail_sys(link, ENOMEM);
    }
    enum moon_err err = pump_in(link);
    return err == MOON_EAGAIN ? begin_wait(link, MOON_LINK_READ, timeout_ms)
                              : err;
}

struct moon_str moon_link_taken(const struct moon_link *link)
{
    return link->taken_len > 0
               ? moon_str(link->in.ptr + link->taken_from, link->taken_len)
               : MOON_STR("");
}

bool moon_link_met(const struct moon_link *link)
{
    return link->met;
}

void moon_link_set_limit(struct moon_link *link, size_t bytes)
{
    link->limit = bytes;
}

/* ---- writing ---- */

/* Sends from *bytes, which is cut to what is left. */
static enum moon_err send_some(struct moon_link *link, struct moon_str *bytes)
{
    while (bytes->len > 0) {
        ssize_t n = send(link->fd, bytes->ptr, bytes->len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? MOON_EAGAIN : fail_sys(link, errno);
        bytes->ptr += n;
        bytes->len -= (size_t)n;
    }
    return MOON_OK;
}

static enum moon_err pump_out(struct moon_link *link)
{
    struct moon_str rest = moon_str(link->out.ptr + link->out_start,
                                    link->out.len - link->out_start);
    enum moon_err err = send_some(link, &rest);
    link->out_start = link->out.len - rest.len;
    if (err == MOON_OK) {
        moon_buf_deinit(&link->out);
        link->out_start = 0;
    }
    return err;
}

enum moon_err moon_link_send(struct moon_link *link, struct moon_str bytes,
                             uint64_t timeout_ms)
{
    if (link->broken)
        return fail(link, MOON_ECLOSED, "closed");
    enum moon_err err = send_some(link, &bytes);
    if (err != MOON_EAGAIN)
        return err;
    moon_buf_add_str(&link->out, bytes);
    if (link->out.failed)
        return fail_sys(link, ENOMEM);
    return begin_wait(link, MOON_LINK_WRITE, timeout_ms);
}

/* ---- events ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct moon_link *link = poll->data;
    if (status < 0) {
        /* An error on the socket: libuv stopped, the calls say which. */
        link->events = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (link->idle) {
        end_idle(link, MOON_ECLOSED);
        return;
    }
    int unasked = events;
    if ((events & UV_READABLE) != 0 && link->waiting[MOON_LINK_READ]) {
        enum moon_err err = pump_in(link);
        if (err != MOON_EAGAIN)
            complete(link, MOON_LINK_READ, err);
        unasked = 0;
    }
    if ((events & UV_WRITABLE) != 0 && link->waiting[MOON_LINK_WRITE]) {
        enum moon_err err = pump_out(link);
        if (err != MOON_EAGAIN)
            complete(link, MOON_LINK_WRITE, err);
    }
    arm(link, unasked);
}

static void on_timer(uv_timer_t *timer)
{
    struct moon_link *link = timer->data;
    uint64_t now = uv_now(link->loop);
    if (link->idle) {
        end_idle(link, MOON_ETIMEOUT);
        return;
    }
    if (link->waiting[MOON_LINK_READ] &&
        link->deadline_ms[MOON_LINK_READ] <= now) {
        /* What may be the start of the pattern stays for the next try. */
        size_t have = unread(link);
        size_t keep = link->kind == MOON_LINK_UNTIL && have > 0
                          ? held_back(link, have)
                          : 0;
        take(link, have - keep, 0);
        complete(link, MOON_LINK_READ, fail(link, MOON_ETIMEOUT, "timeout"));
    }
    if (link->waiting[MOON_LINK_WRITE] &&
        link->deadline_ms[MOON_LINK_WRITE] <= now) {
        link->broken = true;
        complete(link, MOON_LINK_WRITE, fail(link, MOON_ETIMEOUT, "timeout"));
    }
    arm(link, 0);
}

/* ---- between holders ---- */

bool moon_link_has_unread(const struct moon_link *link)
{
    return unread(link) > 0;
}

bool moon_link_is_clean(const struct moon_link *link)
{
    return !link->broken && !link->eof && unread(link) == 0 &&
           !link->waiting[MOON_LINK_READ] && !link->waiting[MOON_LINK_WRITE];
}

bool moon_link_is_quiet(const struct moon_link *link)
{
    char byte;
    ssize_t n = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

void moon_link_idle(struct moon_link *link, uint64_t timeout_ms)
{
    moon_buf_deinit(&link->in);
    moon_buf_deinit(&link->pattern);
    link->in_start = link->taken_len = 0;
    link->limit = MOON_LINK_LIMIT;
    link->idle = true;
    watch(link, UV_READABLE);
    uv_update_time(link->loop);
    (void)uv_timer_start(&link->timer, on_timer, timeout_ms, 0);
    uv_unref((uv_handle_t *)&link->poll);
    uv_unref((uv_handle_t *)&link->timer);
}

void moon_link_resume(struct moon_link *link)
{
    link->idle = false;
    uv_ref((uv_handle_t *)&link->poll);
    uv_ref((uv_handle_t *)&link->timer);
    arm(link, 0);
}
