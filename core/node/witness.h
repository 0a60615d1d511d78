/* What a worker was doing, read out of its memory before it is killed: it
 * cannot tell any more, and a signal would change what it does.
 *
 * Reads only, bounded, and believes nothing: a worker runs foreign code. It
 * fails where the kernel forbids it (a container without ptrace); then the log
 * says less. Master only. */
#ifndef MOON_NODE_WITNESS_H
#define MOON_NODE_WITNESS_H

#include "base/buf.h"

#include <sys/types.h>

/* `running_at`: address in that process of its pointer to the running task, as
 * it published it. Appends "route /a/:id, request 4f..., GET /a/7"; false if
 * nothing can be known. */
bool moon_witness_request(pid_t pid, uint64_t running_at, struct moon_buf *out);

#endif
