/* The worker: a child of the master that serves. It has its own loop, server,
 * generations and builder, and shares the listening sockets and the node's
 * memory.
 *
 * It takes its orders from the control socket only. When that closes, the
 * master is gone: it drains and exits. A stray TERM, INT or HUP does nothing
 * but a log line; USR1 is passed on to the master. */
#ifndef MOON_NODE_WORKER_H
#define MOON_NODE_WORKER_H

#include "base/compiler.h"
#include "node/release.h"
#include "node/shm.h"

#include <stdint.h>

struct moon_region;

struct moon_worker_options {
    int control_fd;
    const int *listen_fds; /* not owned by anybody after the fork but it */
    const bool *listen_tcp;
    uint32_t listen_count;
    struct moon_shm *shm;
    struct moon_region *region;
    uint32_t side, slot; /* in it: its master's words, its own */
    uint32_t place;      /* worker id is one more */
    uint32_t worker_count;
    bool hold;                    /* accept nothing until the master says so */
    struct moon_release *release; /* to start with */
    const struct moon_config *fixed; /* the restart-only keys */
    const char *app_filez, *nodez;
    const char *memory_dirz; /* of "memory:" sessions */
    bool dev;
    /* --dev: the code on disk does not load; or NULL. The descriptor, or -1, is
     * the worker's. */
    const char *broken_whyz;
    int broken_facts_fd;
};

MOON_NORETURN void moon_worker_main(const struct moon_worker_options *options);

#endif
