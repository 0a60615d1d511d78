/* One generation of code on one worker: its VM and what that was built from.
 *
 * Counted by the exchanges that run on it. The worker keeps the list; when a
 * retired generation has no exchange left and its VM is idle, `on_unused`
 * tells the worker, which gives the VM to the builder to destroy. */
#ifndef MOON_NET_GENERATION_H
#define MOON_NET_GENERATION_H

#include "base/archive.h"
#include "base/config.h"
#include "http/client.h"
#include "http/open_files.h"
#include "vm/vm.h"

struct moon_quarantine_gate; /* vm/quarantine_gate.h */
struct moon_route_tally;     /* net/route_tally.h */

struct moon_generation {
    uint64_t number;
    struct moon_vm *vm;                 /* owned */
    struct moon_archive *files;         /* a reference */
    struct moon_config *config;         /* owned */
    struct moon_trust trust;            /* what `config` says of proxies */
    uint32_t exchanges;                 /* that run on it */
    struct moon_route_tally *tally;     /* owned; NULL: nobody counts */
    struct moon_open_files *open_files; /* owned; NULL: none asked for yet */
    /* owned; NULL: no route of it is ever shut off */
    struct moon_quarantine_gate *quarantine;
    void (*on_unused)(void *ctx, struct moon_generation *generation);
    void *ctx; /* of on_unused; called when `exchanges` falls to 0 */
};

/* `complained` as in struct moon_trust. */
static inline void moon_generation_set_trust(struct moon_generation *generation,
                                             _Atomic uint64_t *complained)
{
    generation->trust = (struct moon_trust){
        .proxies = &generation->config->trusted_proxies,
        .rfc7239 = generation->config->forwarded == MOON_FORWARDED_RFC7239,
        .generation = generation->number,
        .complained = complained,
    };
}

#endif
