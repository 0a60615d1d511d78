/* The upgrade to a new binary: what the master that goes and the one that comes
 * keep about each other, and what they say. Private to the master's files.
 *
 * The old master forks, executes the path it was itself started by, and hands
 * over an inventory and a channel (a pair as in control.h). The new one starts
 * as ever, but its workers hold: they accept nothing until the old master
 * grants it, so until then it can be killed without loss. Whatever goes wrong
 * before that, the old one serves on.
 *
 *     old                         new
 *     fork, exec ---------------> reads the inventory
 *       <---------------- HELLO   version, pid
 *                                 probe, workers; all hold
 *       <---------------- READY   which sockets it has taken over
 *     GRANT --------------------> pid file, admin socket, workers accept
 *       <---------------- TAKEN
 *     tells the service manager
 *     LEFT ---------------------> may talk to the service manager
 *     drains
 *
 * FAILED with a sentence may come from the new one before READY, ABORT from the
 * old one before GRANT. If the old master dies, the new one grants itself. */
#ifndef MOON_NODE_UPGRADE_H
#define MOON_NODE_UPGRADE_H

#include "node/inventory.h"

#include <stdbool.h>
#include <uv.h>

/* How long the old master waits for HELLO; and beyond the times in which a
 * start must be over, for READY. */
enum { MOON_HELLO_MS = 10000, MOON_UPGRADE_MARGIN_MS = 5000 };

/* Spoken between versions: these numbers and the layout of a packet (control.c)
 * stay as they are. */
enum moon_upgrade_message {
    MOON_UPGRADE_HELLO = 1001, /* text: version; generation: pid */
    MOON_UPGRADE_FAILED,       /* text: why */
    MOON_UPGRADE_READY, /* text: for the log; count: bits of the inventory's
                           sockets; txn: bits of moon_upgrade_taken */
    MOON_UPGRADE_GRANT,
    MOON_UPGRADE_TAKEN,
    MOON_UPGRADE_LEFT,
    MOON_UPGRADE_ABORT,
};

enum moon_upgrade_taken {
    MOON_TAKEN_PID_FILE = 1,
    MOON_TAKEN_ADMIN = 2,
    MOON_TAKEN_MEMORY = 4, /* the directory of sessions in memory */
};

/* The environment variable with the number of the inventory's descriptor. */
#define MOON_UPGRADE_VARIABLE "MOONSHINE_UPGRADE"

enum moon_upgrade_phase {
    MOON_UPGRADE_NONE,
    MOON_UPGRADE_STARTING, /* executed; it has not said a word */
    MOON_UPGRADE_LOADING,  /* it is one that can take over */
    MOON_UPGRADE_GRANTED,  /* it has our word and does it now */
    MOON_UPGRADE_OVER,     /* it serves; we drain */
    MOON_UPGRADE_ENDING,   /* it failed and is being killed */
};

/* The old master's side. */
struct moon_upgrade {
    char *pathz, **argv; /* to execute; pathz is owned */
    enum moon_upgrade_phase phase;
    pid_t child;  /* as forked, leader of its process group */
    pid_t main;   /* the new master; the same unless a script forked */
    bool reaped;  /* child */
    bool granted; /* it was, whatever came of it */
    bool polling; /* the channel's handle is open */
    bool closing; /* it is being closed */
    int fd;       /* our end of the channel */
    uv_poll_t poll;
    char versionz[32]; /* of the new binary; "" until it says so */
    uint32_t taken;    /* bits of moon_upgrade_taken */
    uint64_t started_ms, deadline_ms;
    bool queued;       /* wanted as soon as the reload is over */
    bool reload_after; /* SIGUSR1 came meanwhile */
    bool stop_after;   /* it was to stop while it handed over */
    /* the last one that failed, for status */
    char *last_text;
    double last_at;
};

/* The new master's side. */
struct moon_takeover {
    struct moon_inventory inventory; /* what is taken over is -1 in it */
    bool active;                     /* an old master started this one */
    bool pending;                    /* not granted yet: nothing is ours */
    bool announced;                  /* READY was sent */
    bool whole;                      /* with all workers */
    bool left;    /* the old master only drains now, or is gone */
    bool alone;   /* the old master died before it had granted it */
    bool polling; /* the channel's handle is open: the old master lives */
    uv_poll_t poll;
    uint32_t sockets, taken; /* as READY says */
    uint32_t left_slots;     /* of the old master's workers, not seen ended */
    uint64_t sweep_until_ms;
    double took_at;
};

#endif
