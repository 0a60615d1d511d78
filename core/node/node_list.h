/* The nodes that work together, as Redis at cluster.url lists them:
 *
 *     moon:nodes      sorted set: the name of each node, scored with when it
 *                     was last heard of (milliseconds, by the clock of Redis)
 *     moon:node:NAME  hash: admin (address of its admin endpoints), host, pid,
 *                     version, generation, workers
 *
 * Both expire 10 s after the last word. A node is its name: names must differ.
 * One worker speaks for its node, each second: the first of those that serve.
 * It reads how many nodes there are; while Redis is away the last count holds.
 * Loop thread of a worker. */
#ifndef MOON_NODE_NODE_LIST_H
#define MOON_NODE_NODE_LIST_H

#include "base/config.h"
#include "node/shm.h"

#include <uv.h>

struct moon_node_list;

struct moon_node_list_options {
    uv_loop_t *loop;
    struct moon_shm *shm; /* `cluster` gets the count */
    uint32_t side, slot;  /* of this worker's master, and its own */
    const char *nodez, *run_dirz;
    const char *adminz; /* as configured; "": the socket in the run directory */
    int master_pid;
};

/* Everything is borrowed for its life. NULL: no memory. */
MOON_MUST_CHECK struct moon_node_list *moon_node_list_create(
    const struct moon_node_list_options *options);
/* Each second, with the configuration that holds now: speaks, if it is for this
 * worker to do so. */
void moon_node_list_tend(struct moon_node_list *list,
                         const struct moon_config *config);
/* The node ends: takes it off the list, if this worker spoke for it, and no
 * next binary goes on in its name. */
void moon_node_list_leave(struct moon_node_list *list);
/* NULL is fine. */
void moon_node_list_destroy(struct moon_node_list *list);

#endif
