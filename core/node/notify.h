/* What the master tells a service manager: the protocol of sd_notify(3),
 * datagrams of NAME=value lines to the socket in NOTIFY_SOCKET, a path or (with
 * "@" first) an abstract name.
 *
 * One instance, in the master. It takes its variables out of the environment,
 * so that children do not speak for us, and gives them back to the binary that
 * takes over. Nothing here waits: what the manager does not take at once is
 * sent again by the next tick. Without NOTIFY_SOCKET all of it does nothing.
 */
#ifndef MOON_NODE_NOTIFY_H
#define MOON_NODE_NOTIFY_H

#include "base/buf.h"
#include "base/compiler.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct moon_notify {
    int fd;     /* -1: there is no manager */
    bool muted; /* another process still speaks for the service */
    struct sockaddr_un to;
    socklen_t to_len;
    char *socketz;             /* NOTIFY_SOCKET; NULL */
    uint64_t watchdog_usec;    /* WATCHDOG_USEC; 0: none */
    uint64_t watchdog_next_ms; /* moon_clock_ms */
    uint64_t status_next_ms, extend_next_ms;
    char status[256];       /* as told last */
    struct moon_buf unsent; /* whole messages, each ended by NUL */
};

/* Reads and unsets the variables. `handed_over`: they were of the master that
 * this one takes over from, so WATCHDOG_PID names that one. */
void moon_notify_init(struct moon_notify *notify, bool handed_over);
void moon_notify_deinit(struct moon_notify *notify);
/* Sets the variables again, for the process `pid` that is to be executed. */
void moon_notify_export(const struct moon_notify *notify, int pid);

/* One message: "READY=1", lines with a line break between them. */
void moon_notify_send(struct moon_notify *notify, const char *fmt, ...)
    MOON_PRINTF(2, 3);
/* A line for people, sent if it differs from the last one; not more than once
 * in a few seconds unless `now`. */
void moon_notify_status(struct moon_notify *notify, const char *text, bool now);
/* "The reload has begun": with the time, as Type=notify-reload wants it. */
void moon_notify_reloading(struct moon_notify *notify);
/* Every tick; `healthy` feeds the watchdog twice in its time. */
void moon_notify_tick(struct moon_notify *notify, bool healthy);
/* Every tick in which a start or an end goes on as it should: the manager must
 * not take it for hung. */
void moon_notify_extend(struct moon_notify *notify);

#endif
