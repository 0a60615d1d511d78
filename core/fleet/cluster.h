/* Several nodes of one application and an nginx in front of them, on this
 * machine, as children of this process: for trying out what a cluster does.
 *
 * They live in a folder of their own below the run directory: sockets between
 * nginx and nodes, nginx's files, a log each. Nodes come first, then nginx;
 * nginx goes first, then the nodes finish. A node that ends by itself is
 * started again. Blocking; standard output gets a table that stays current (on
 * a terminal), else a line for what happens. */
#ifndef MOON_FLEET_CLUSTER_H
#define MOON_FLEET_CLUSTER_H

#include "fleet/nginx_config.h"

enum { MOON_CLUSTER_MAX = 64, MOON_CLUSTER_ARGS = 300 };

/* All borrowed for the call. */
struct moon_cluster_options {
    const char *programz; /* moonshine itself */
    const char *nginxz;   /* by name (PATH) or path */
    const char *namez;    /* nodes are NAME-1, NAME-2, ... */
    uint32_t size;
    const char *const *args; /* each node: PROGRAM run ARGS... */
    size_t arg_count;        /* MOON_CLUSTER_ARGS at most */
    const char *run_dirz;
    struct moon_nginx *nginx; /* how to balance, where to listen; the nodes are
                                 added */
    const struct moon_config *config; /* of the nodes, as far as known */
};

/* The exit code: 0 after a signal, when all has ended well. */
int moon_cluster_run(const struct moon_cluster_options *options);

#endif
