/* Messages between the master and its children (workers, probes) over a
 * SOCK_SEQPACKET pair: one message is one packet, with up to two descriptors.
 *
 * Nothing is queued: packets are small, the kernel's buffer holds dozens, and a
 * full one means that the other side hangs (MOON_EAGAIN). A closed pair means
 * that the other side is gone. Never blocks; any process, loop thread. */
#ifndef MOON_NODE_CONTROL_H
#define MOON_NODE_CONTROL_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum moon_control_type {
    /* master to worker */
    MOON_CONTROL_PREPARE = 1, /* build a generation: archive and config fd */
    MOON_CONTROL_COMMIT,      /* the prepared one serves from now on */
    MOON_CONTROL_DROP,        /* forget the prepared one */
    MOON_CONTROL_DRAIN,       /* finish, then exit; count: bits of listening
                                 sockets that others go on accepting from */
    MOON_CONTROL_REOPEN_LOGS,
    MOON_CONTROL_REQUESTS, /* list what is in flight */
    MOON_CONTROL_BROKEN,   /* --dev: answer everything with this error; facts
                              fd, if there are more (vm/dev_report.h) */
    MOON_CONTROL_ACCEPT,   /* to one that holds: connections are ours now */
    /* worker to master */
    MOON_CONTROL_READY,     /* serves its first generation, or could; count:
                               microseconds that took to load */
    MOON_CONTROL_PREPARED,  /* vote: yes */
    MOON_CONTROL_FAILED,    /* vote: no; the text says why */
    MOON_CONTROL_COMMITTED, /* requests enter the new generation */
    MOON_CONTROL_RELOAD,    /* got SIGUSR1, which was meant for the master */
    MOON_CONTROL_REQUESTS_TEXT,
    /* probe to master */
    MOON_CONTROL_PROBE_CONFIG, /* archive and config fd; text: app directory */
    MOON_CONTROL_PROBE_OK,     /* final archive fd; count: routes, or whether
                                  one takes the request that was asked about */
    MOON_CONTROL_PROBE_FAILED, /* text: the error; --dev: facts fd */
    MOON_CONTROL_PROBE_DISK,   /* count: does the disk differ? text: how */
    MOON_CONTROL_PROBE_TEST,   /* count: enum moon_test_event; txn: its number;
                                  generation: of an END, nanoseconds */
};

enum { MOON_CONTROL_FDS = 2, MOON_CONTROL_TEXT_MAX = 60000 };

struct moon_control_msg {
    uint32_t type;
    uint32_t count;
    uint64_t generation;
    uint64_t txn;              /* which reload (or request) this belongs to */
    struct moon_str text;      /* borrowed; a longer one is cut when sent */
    int fds[MOON_CONTROL_FDS]; /* -1: none. Sent: borrowed. Received: owned */
};

/* Room for one received packet. */
struct moon_control_buf {
    _Alignas(8) char bytes[MOON_CONTROL_TEXT_MAX + 64];
};

void moon_control_msg_init(struct moon_control_msg *msg, uint32_t type);
/* Non-blocking, close-on-exec. */
MOON_MUST_CHECK enum moon_err moon_control_pair(int fds[2]);
MOON_MUST_CHECK enum moon_err moon_control_send(
    int fd, const struct moon_control_msg *msg);
/* msg->text is borrowed from `buf`. MOON_EAGAIN: nothing there; MOON_ECLOSED:
 * the other side is gone; MOON_EPROTO: not one of our packets. */
MOON_MUST_CHECK enum moon_err moon_control_receive(
    int fd, struct moon_control_msg *msg, struct moon_control_buf *buf);
/* Closes the descriptors that a received message still holds. */
void moon_control_msg_close(struct moon_control_msg *msg);
/* Takes one of them out. */
int moon_control_msg_take_fd(struct moon_control_msg *msg, int index);

/* Bytes that are too long for a packet, as a sealed memfd; -1 on failure. */
int moon_control_memfd(const char *namez, struct moon_str bytes);
/* Appends what lies in a received one. Checked: it may come from a process that
 * ran foreign code. MOON_ETOO_BIG if it is longer than `max`. */
MOON_MUST_CHECK enum moon_err moon_control_read_memfd(int fd, size_t max,
                                                      struct moon_buf *out);

#endif
