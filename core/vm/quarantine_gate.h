/* Quarantine: a route that fails the same way `quarantine.failures` times in a
 * row is shut off alone and answers 503, until one request that is let through
 * succeeds (state/quarantine.h). All workers of the node count and decide
 * together.
 *
 * What counts: errors that nobody raised as an answer, and the limits of CPU,
 * memory and time. Errors are the same if they are of the same place in the
 * code; where a limit strikes is chance, so there the kind is enough. Wanted
 * failures, other answers of 4xx and 5xx and clients that left say nothing.
 *
 * One gate a generation and worker. Loop thread only. Changes are logged. */
#ifndef MOON_VM_QUARANTINE_GATE_H
#define MOON_VM_QUARANTINE_GATE_H

#include "base/config.h"
#include "http/exchange.h"
#include "state/quarantine.h"
#include "state/region.h"

/* Without a number in the configuration, for routes that ask for it. */
enum { MOON_QUARANTINE_DEFAULT_FAILURES = 20 };

/* What holds for a route; false: it is never shut off. */
bool moon_quarantine_rule_of(const struct moon_route *route,
                             const struct moon_config *config,
                             struct moon_quarantine_rule *rule);

struct moon_quarantine_gate;

/* When the generation begins to serve; all are borrowed for its life. NULL: no
 * route of it can be shut off, or there is no memory, which is logged. */
struct moon_quarantine_gate *moon_quarantine_gate_create(
    struct moon_region *region, const struct moon_app *app,
    const struct moon_config *config, uint64_t generation);
/* Once no exchange that passed it is left. NULL is fine. */
void moon_quarantine_gate_destroy(struct moon_quarantine_gate *gate);

/* x is about to run its route. True: it is shut off, x is to be answered 503,
 * and Retry-After is set. Else x->quarantine may be set: then
 * moon_quarantine_gate_leave is called once when x ends. */
bool moon_quarantine_gate_refuses(const struct moon_quarantine_gate *gate,
                                  struct moon_exchange *x);
void moon_quarantine_gate_leave(const struct moon_quarantine_gate *gate,
                                struct moon_exchange *x);

/* The route of x failed in a way that counts; what it says is copied. Nothing
 * happens unless it is watched. */
void moon_quarantine_gate_failed(struct moon_exchange *x, struct moon_str kind,
                                 struct moon_str place,
                                 struct moon_str message);
/* Was it refused? */
bool moon_quarantine_gate_refused(const struct moon_exchange *x);

#endif
