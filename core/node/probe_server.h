/* The probe's own server: lets app:check and spec files send real requests to
 * the app that is being tried, through the same connection, router and stages
 * as any client.
 *
 * A request may say who it comes from, in two fields that only this server
 * knows and that the app does not see: Moonshine-Test-Peer (an address) and
 * Moonshine-Test-Scheme (http or https).
 *
 * It listens on an abstract unix socket with a random name, which leaves
 * nothing behind when the app crashes the probe. Lives until the process
 * exits. */
#ifndef MOON_NODE_PROBE_SERVER_H
#define MOON_NODE_PROBE_SERVER_H

#include "base/archive.h"
#include "base/config.h"
#include "vm/vm.h"

enum { MOON_PROBE_NAME = 64 };

/* Before the VM is made: names the socket ("@...") in `namez` and returns a
 * listening descriptor, -1 on failure. */
int moon_probe_server_listen(char namez[MOON_PROBE_NAME]);

/* Serves the VM on it; borrows all for the rest of the process. */
MOON_MUST_CHECK enum moon_err moon_probe_server_start(
    int fd, struct moon_vm *vm, struct moon_archive *archive,
    struct moon_config *config, uv_loop_t *loop);

#endif
