/* Between cluster.c (what happens when) and cluster_*.c. Private to them. */
#ifndef MOON_FLEET_CLUSTER_INTERNAL_H
#define MOON_FLEET_CLUSTER_INTERNAL_H

#include "fleet/cluster.h"
#include "fleet/sample.h"
#include "fleet/target.h"

#include <uv.h>

enum {
    MOON_CLUSTER_TICK_MS = 100,
    MOON_CLUSTER_DIR = 512,  /* far more than the path of a socket may have */
    MOON_CLUSTER_PATH = 640, /* of something in it */
};

struct moon_cluster_child {
    char namez[MOON_TARGET_NAME];
    char logz[MOON_CLUSTER_PATH]; /* "": our standard output */
    pid_t pid;                    /* 0: none */
    bool told;                    /* to end */
    uint64_t told_ms;
};

struct moon_cluster_member {
    struct moon_cluster_child child;
    char socketz[MOON_CLUSTER_PATH]; /* "unix:..." */
    struct moon_target admin;
    bool ready, was_ready;
    uint32_t failures; /* ended without having been ready, in a row */
    uint64_t start_ms; /* when to start it again */
    uint32_t restarts;
    /* what the table shows */
    struct moon_sample sample;
    uint64_t sampled_ms;
    double requests_s, failed_s, slow_s;
};

enum moon_cluster_phase {
    MOON_CLUSTER_NODES, /* they come up */
    MOON_CLUSTER_FRONT, /* nginx does */
    MOON_CLUSTER_SERVES,
    MOON_CLUSTER_FRONT_ENDS,
    MOON_CLUSTER_NODES_END,
};

struct moon_cluster {
    const struct moon_cluster_options *o;
    enum moon_cluster_phase phase;
    int exit_code;
    const char *dirz;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_signal_t signals[5];
    uint32_t signal_count;
    struct moon_cluster_child front;
    struct moon_cluster_member members[MOON_CLUSTER_MAX];
    bool hurry; /* a second signal came: nodes cut what is in flight */
    /* the table */
    bool terminal;
    uint32_t lines; /* on the screen, to go up before the next */
    uint64_t shown_ms;
};

/* ---- cluster_child.c ---- */
/* Starts it in a process group of its own, its output at the end of its log;
 * it is told `end_signal` when this process dies. False: errno says why. */
bool moon_cluster_spawn(struct moon_cluster_child *child,
                        const char *const *argv, int end_signal);
void moon_cluster_tell(struct moon_cluster_child *child, int signal);
/* The last lines of its log, for a child that ended when it should not. */
void moon_cluster_print_log(const struct moon_cluster_child *child);

/* ---- cluster_table.c ---- */
/* A line of what happens; the table moves below it. */
void moon_cluster_say(struct moon_cluster *cluster, const char *fmt, ...)
    MOON_PRINTF(2, 3);
/* Asks the nodes and, on a terminal, draws the table anew. */
void moon_cluster_show(struct moon_cluster *cluster);

#endif
