/* One generation of code on one worker: its VM and what that was built from.
 *
 * Counted by the exchanges that run on it. The worker keeps the list; when a
 * retired generation has no exchange left and its VM is idle, `on_unused`
 * tells the worker, which gives the VM to the builder to destroy. */
#ifndef MOON_NET_GENERATION_H
#define MOON_NET_GENERATION_H

#include "base/archive.h"
#include "base/config.h"
#include "vm/vm.h"

struct moon_generation {
    uint64_t number;
    struct moon_vm *vm;         /* owned */
    struct moon_archive *files; /* a reference */
    struct moon_config *config; /* owned */
    uint32_t exchanges;         /* that run on it */
    uint64_t limited;           /* requests that a limit refused in C */
    void (*on_unused)(void *ctx, struct moon_generation *generation);
    void *ctx; /* of on_unused; called when `exchanges` falls to 0 */
};

#endif
