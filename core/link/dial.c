#include "link/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A unix socket whose backlog is full says so at once and never polls ready:
 * it is asked again after this long. */
enum { TARGETS_MAX = 8, UNIX_RETRY_MS = 5, HOST_MAX = 255 };

struct target {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } addr;
    socklen_t len;
};

struct moon_dial {
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    uv_poll_t *poll; /* a block of its own: each address needs a new one */
    int fd;
    uint32_t refs; /* the timer's handle and the lookup; freed at 0 */
    bool over, looking_up;
    uint16_t port;
    uint64_t deadline_ms; /* of uv_now */
    moon_dial_done *done;
    void *ctx;
    uint32_t count, next;
    struct target targets[TARGETS_MAX];
    char why[MOON_DIAL_ERROR_SIZE];
};

void moon_dial_describe(int uv_code, char *to, size_t size)
{
    const char *textz = NULL;
    switch (uv_code) {
    case UV_ETIMEDOUT:
        textz = "timeout";
        break;
    case UV_EOF:
    case UV_EPIPE:
        textz = "closed";
        break;
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
        textz = "host not found";
        break;
    default:
        (void)uv_strerror_r(uv_code, to, size);
        return;
    }
    (void)snprintf(to, size, "%s", textz);
}

static void unref(struct moon_dial *dial)
{
    if (--dial->refs == 0)
        free(dial);
}

static void timer_closed(uv_handle_t *handle)
{
    unref(handle->data);
}

static void poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void stop_watching(struct moon_dial *dial)
{
    if (dial->poll != NULL) {
        uv_close((uv_handle_t *)dial->poll, poll_closed);
        dial->poll = NULL;
    }
}

static void drop_attempt(struct moon_dial *dial)
{
    stop_watching(dial);
    if (dial->fd >= 0)
        (void)close(dial->fd);
    dial->fd = -1;
}

static void release(struct moon_dial *dial)
{
    dial->over = true;
    drop_attempt(dial);
    if (dial->looking_up)
        (void)uv_cancel((uv_req_t *)&dial->lookup);
    uv_close((uv_handle_t *)&dial->timer, timer_closed);
}

void moon_dial_cancel(struct moon_dial *dial)
{
    release(dial);
}

static void finish(struct moon_dial *dial, enum moon_err err)
{
    int fd = -1;
    stop_watching(dial);
    if (err == MOON_OK) {
        fd = dial->fd;
        dial->fd = -1;
    }
    release(dial);
    dial->done(dial->ctx, err, fd, dial->why);
}

/* ---- one address after the other ---- */

static enum moon_err try_next(struct moon_dial *dial);

static void proceed(struct moon_dial *dial)
{
    enum moon_err err = try_next(dial);
    if (err != MOON_EAGAIN)
        finish(dial, err);
}

static void on_timer(uv_timer_t *timer)
{
    struct moon_dial *dial = timer->data;
    if (uv_now(dial->loop) >= dial->deadline_ms) {
        moon_dial_describe(UV_ETIMEDOUT, dial->why, sizeof(dial->why));
        finish(dial, MOON_ETIMEOUT);
        return;
    }
    proceed(dial); /* this address had its share, or a full backlog */
}

static void arm(struct moon_dial *dial, uint64_t at_most_ms)
{
    uint64_t now = uv_now(dial->loop);
    uint64_t left = dial->deadline_ms > now ? dial->deadline_ms - now : 0;
    (void)uv_timer_start(&dial->timer, on_timer,
                         left < at_most_ms ? left : at_most_ms, 0);
}

/* The address that is tried now shares what is left with those behind it. */
static void arm_share(struct moon_dial *dial)
{
    uint64_t now = uv_now(dial->loop);
    uint64_t left = dial->deadline_ms > now ? dial->deadline_ms - now : 0;
    arm(dial, left / (dial->count - dial->next + 1));
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct moon_dial *dial = poll->data;
    int error = 0;
    socklen_t len = sizeof(error);
    (void)events;
    /* A failed connect arrives as a bad status, the reason is SO_ERROR. */
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0 && status >= 0) {
        finish(dial, MOON_OK);
        return;
    }
    moon_dial_describe(error != 0 ? -error : status, dial->why,
                       sizeof(dial->why));
    proceed(dial);
}

static enum moon_err watch(struct moon_dial *dial)
{
    uv_poll_t *poll = malloc(sizeof(*poll));
    int code =
        poll != NULL ? uv_poll_init(dial->loop, poll, dial->fd) : UV_ENOMEM;
    if (code != 0) {
        free(poll);
        moon_dial_describe(code, dial->why, sizeof(dial->why));
        return MOON_ESYS;
    }
    poll->data = dial;
    dial->poll = poll;
    (void)uv_poll_start(poll, UV_WRITABLE, on_poll);
    arm_share(dial);
    return MOON_EAGAIN;
}

static enum moon_err attempt(struct moon_dial *dial,
                             const struct target *target)
{
    int family = target->addr.any.sa_family;
    int one = 1;
    dial->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd >= 0) {
        if (family != AF_UNIX)
            (void)setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &one,
                             sizeof(one));
        if (connect(dial->fd, &target->addr.any, target->len) == 0)
            return MOON_OK;
    }
    if (dial->fd >= 0 && (errno == EINPROGRESS || errno == EINTR))
        return watch(dial);
    int error = errno;
    drop_attempt(dial);
    if (error == EAGAIN && family == AF_UNIX) {
        dial->next--;
        arm(dial, UNIX_RETRY_MS);
        return MOON_EAGAIN;
    }
    moon_dial_describe(-error, dial->why, sizeof(dial->why));
    return MOON_ESYS;
}

static enum moon_err try_next(struct moon_dial *dial)
{
    drop_attempt(dial);
    while (dial->next < dial->count) {
        enum moon_err err = attempt(dial, &dial->targets[dial->next++]);
        if (err == MOON_OK || err == MOON_EAGAIN)
            return err;
    }
    return MOON_ESYS;
}

/* ---- addresses ---- */

static void add_target(struct moon_dial *dial, const struct sockaddr *addr)
{
    struct target *target = &dial->targets[dial->count];
    if (dial->count == TARGETS_MAX)
        return;
    if (addr->sa_family == AF_INET) {
        target->len = sizeof(target->addr.in4);
        memcpy(&target->addr, addr, sizeof(target->addr.in4));
        target->addr.in4.sin_port = htons(dial->port);
    } else if (addr->sa_family == AF_INET6) {
        target->len = sizeof(target->addr.in6);
        memcpy(&target->addr, addr, sizeof(target->addr.in6));
        target->addr.in6.sin6_port = htons(dial->port);
    } else {
        return;
    }
    dial->count++;
}

static void on_lookup(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct moon_dial *dial = req->data;
    dial->looking_up = false;
    if (!dial->over) {
        for (struct addrinfo *at = list; at != NULL; at = at->ai_next)
            add_target(dial, at->ai_addr);
        if (dial->count == 0)
            moon_dial_describe(status != 0 ? status : UV_EAI_NONAME, dial->why,
                               sizeof(dial->why));
        proceed(dial);
    }
    uv_freeaddrinfo(list);
    unref(dial);
}

static enum moon_err look_up(struct moon_dial *dial, const char *hostz)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    dial->lookup.data = dial;
    int code = uv_getaddrinfo(dial->loop, &dial->lookup, on_lookup, hostz, NULL,
                              &hints);
    if (code != 0) {
        moon_dial_describe(code, dial->why, sizeof(dial->why));
        return MOON_ESYS;
    }
    dial->looking_up = true;
    dial->refs++;
    arm(dial, UINT64_MAX);
    return MOON_EAGAIN;
}

static enum moon_err begin_unix(struct moon_dial *dial, struct moon_str path)
{
    struct target *target = &dial->targets[0];
    if (path.len >= sizeof(target->addr.un.sun_path)) {
        moon_dial_describe(UV_ENAMETOOLONG, dial->why, sizeof(dial->why));
        return MOON_EINVAL;
    }
    target->addr.un.sun_family = AF_UNIX;
    memcpy(target->addr.un.sun_path, path.ptr, path.len);
    target->addr.un.sun_path[path.len] = '\0';
    target->len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    if (path.len > 1 && path.ptr[0] == '@') {
        /* Abstract: no file, and its length is part of the name. */
        target->addr.un.sun_path[0] = '\0';
        target->len--;
    }
    dial->count = 1;
    return try_next(dial);
}

static enum moon_err begin(struct moon_dial *dial, struct moon_str host)
{
    char hostz[HOST_MAX + 1];
    struct target literal;
    if (host.len == 0 || memchr(host.ptr, '\0', host.len) != NULL) {
        moon_dial_describe(UV_EAI_NONAME, dial->why, sizeof(dial->why));
        return MOON_EINVAL;
    }
    if (dial->port == 0)
        return begin_unix(dial, host);
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = moon_str(host.ptr + 1, host.len - 2);
    if (host.len > HOST_MAX) {
        moon_dial_describe(UV_EAI_NONAME, dial->why, sizeof(dial->why));
        return MOON_EINVAL;
    }
    memcpy(hostz, host.ptr, host.len);
    hostz[host.len] = '\0';
    if (uv_ip4_addr(hostz, dial->port, &literal.addr.in4) != 0 &&
        uv_ip6_addr(hostz, dial->port, &literal.addr.in6) != 0)
        return look_up(dial, hostz);
    add_target(dial, &literal.addr.any);
    return try_next(dial);
}

enum moon_err moon_dial_start(uv_loop_t *loop, struct moon_str host,
                              uint16_t port, uint64_t timeout_ms,
                              moon_dial_done *done, void *ctx,
                              struct moon_dial **out, int *fd, char *error)
{
    struct moon_dial *dial = calloc(1, sizeof(*dial));
    if (dial == NULL) {
        moon_dial_describe(UV_ENOMEM, error, MOON_DIAL_ERROR_SIZE);
        return MOON_ENOMEM;
    }
    uv_update_time(loop);
    (void)uv_timer_init(loop, &dial->timer);
    dial->timer.data = dial;
    dial->refs = 1;
    dial->loop = loop;
    dial->fd = -1;
    dial->port = port;
    dial->deadline_ms = uv_now(loop) + timeout_ms;
    dial->done = done;
    dial->ctx = ctx;
    enum moon_err err = begin(dial, host);
    if (err == MOON_EAGAIN) {
        *out = dial;
        return err;
    }
    if (err == MOON_OK) {
        *fd = dial->fd;
        dial->fd = -1;
    }
    memcpy(error, dial->why, MOON_DIAL_ERROR_SIZE);
    release(dial);
    return err;
}
