/* What the processes of a node use of the machine, from /proc. Master only;
 * reads a few small files for each of them. */
#ifndef MOON_NODE_PROCESS_USAGE_H
#define MOON_NODE_PROCESS_USAGE_H

#include <stdint.h>
#include <sys/types.h>

struct moon_process_usage {
    double cpu_s;            /* user and system */
    uint64_t resident_bytes; /* what processes share counts in each */
    uint64_t fds, max_fds;   /* of the process that has the most open */
};

/* This process and those children of it that are gone. */
void moon_process_usage_own(struct moon_process_usage *out);
/* Adds a live child; nothing if it cannot be looked at. */
void moon_process_usage_add(struct moon_process_usage *sum, pid_t pid);
/* Of one process, 0 if it cannot be looked at. */
uint64_t moon_process_resident_bytes(pid_t pid);

#endif
