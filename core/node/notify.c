#include "node/notify.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STATUS_EVERY_MS = 5000,
    EXTEND_EVERY_MS = 2000,
    EXTEND_BY_MS = 10000,
    UNSENT_MAX = 4096,
};

/* ---- set-up ---- */

static bool parse_socket(struct moon_notify *notify, const char *namez)
{
    size_t len = strlen(namez);
    if ((namez[0] != '/' && namez[0] != '@') || len < 2 ||
        len >= sizeof(notify->to.sun_path))
        return false;
    notify->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(notify->to.sun_path, namez, len);
    if (namez[0] == '@')
        notify->to.sun_path[0] = '\0';
    /* The length tells where an abstract name ends. */
    notify->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

static uint64_t watchdog(bool handed_over)
{
    const char *usecz = getenv("WATCHDOG_USEC");
    const char *pidz = getenv("WATCHDOG_PID");
    uint64_t usec, pid;
    if (usecz == NULL || !moon_str_to_u64(moon_strz(usecz), &usec))
        return 0;
    if (!handed_over && pidz != NULL &&
        (!moon_str_to_u64(moon_strz(pidz), &pid) || pid != (uint64_t)getpid()))
        return 0;
    return usec;
}

void moon_notify_init(struct moon_notify *notify, bool handed_over)
{
    *notify = (struct moon_notify){.fd = -1, .muted = handed_over};
    const char *socketz = getenv("NOTIFY_SOCKET");
    if (socketz != NULL && socketz[0] != '\0') {
        if (parse_socket(notify, socketz))
            notify->fd =
                socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (notify->fd < 0)
            moon_log(MOON_LOG_WARN,
                     "NOTIFY_SOCKET: \"%s\" cannot be used: nothing is told "
                     "to the service manager",
                     socketz);
        else
            notify->socketz = strdup(socketz);
        notify->watchdog_usec = watchdog(handed_over);
    }
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

void moon_notify_deinit(struct moon_notify *notify)
{
    if (notify->fd >= 0)
        (void)close(notify->fd);
    notify->fd = -1;
    free(notify->socketz);
    notify->socketz = NULL;
    moon_buf_deinit(&notify->unsent);
}

void moon_notify_export(const struct moon_notify *notify, int pid)
{
    char number[32];
    if (notify->socketz == NULL)
        return;
    (void)setenv("NOTIFY_SOCKET", notify->socketz, 1);
    if (notify->watchdog_usec == 0)
        return;
    (void)snprintf(number, sizeof(number), "%llu",
                   (unsigned long long)notify->watchdog_usec);
    (void)setenv("WATCHDOG_USEC", number, 1);
    (void)snprintf(number, sizeof(number), "%d", pid);
    (void)setenv("WATCHDOG_PID", number, 1);
}

/* ---- sending ---- */

/* False: try again later. */
static bool put(const struct moon_notify *notify, struct moon_str message)
{
    const struct sockaddr *to = (const struct sockaddr *)&notify->to;
    ssize_t n;
    do {
        n = sendto(notify->fd, message.ptr, message.len,
                   MSG_NOSIGNAL | MSG_DONTWAIT, to, notify->to_len);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS)
        return false;
    moon_log(MOON_LOG_DEBUG, "the service manager was not told: %s",
             strerror(errno));
    return true;
}

/* In the order in which they were said. */
static void flush(struct moon_notify *notify)
{
    struct moon_str rest = moon_buf_str(&notify->unsent);
    while (rest.len > 0) {
        struct moon_str left;
        if (!put(notify, moon_str_cut(rest, '\0', &left)))
            break;
        rest = left;
    }
    if (rest.len > 0)
        memmove(notify->unsent.ptr, rest.ptr, rest.len);
    notify->unsent.len = rest.len;
}

void moon_notify_send(struct moon_notify *notify, const char *fmt, ...)
{
    if (notify->fd < 0 || notify->muted)
        return;
    struct moon_buf message = {0};
    va_list args;
    va_start(args, fmt);
    moon_buf_vprintf(&message, fmt, args);
    va_end(args);
    flush(notify);
    if (!message.failed &&
        (notify->unsent.len > 0 || !put(notify, moon_buf_str(&message))) &&
        notify->unsent.len + message.len < UNSENT_MAX) {
        moon_buf_add_str(&notify->unsent, moon_buf_str(&message));
        moon_buf_add_char(&notify->unsent, '\0');
    }
    moon_buf_deinit(&message);
}

void moon_notify_status(struct moon_notify *notify, const char *text, bool now)
{
    uint64_t now_ms = moon_clock_ms();
    char line[sizeof(notify->status)];
    if (notify->fd < 0 || notify->muted ||
        (!now && now_ms < notify->status_next_ms))
        return;
    (void)snprintf(line, sizeof(line), "%s", text);
    line[strcspn(line, "\n")] = '\0'; /* a value is one line */
    if (strcmp(line, notify->status) == 0)
        return;
    memcpy(notify->status, line, sizeof(line));
    notify->status_next_ms = now_ms + STATUS_EVERY_MS;
    moon_notify_send(notify, "STATUS=%s", line);
}

void moon_notify_reloading(struct moon_notify *notify)
{
    moon_notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)(moon_clock_ns() / 1000));
}

void moon_notify_tick(struct moon_notify *notify, bool healthy)
{
    if (notify->fd < 0)
        return;
    flush(notify); /* what was said before it was muted, too */
    if (notify->muted)
        return;
    uint64_t now_ms = moon_clock_ms();
    if (notify->watchdog_usec == 0 || !healthy ||
        now_ms < notify->watchdog_next_ms)
        return;
    notify->watchdog_next_ms = now_ms + notify->watchdog_usec / 2000;
    moon_notify_send(notify, "WATCHDOG=1");
}

void moon_notify_extend(struct moon_notify *notify)
{
    uint64_t now_ms = moon_clock_ms();
    if (notify->fd < 0 || now_ms < notify->extend_next_ms)
        return;
    notify->extend_next_ms = now_ms + EXTEND_EVERY_MS;
    moon_notify_send(notify, "EXTEND_TIMEOUT_USEC=%llu",
                     (unsigned long long)EXTEND_BY_MS * 1000);
}
