/* The session of a request, as Lua reaches it (vm/abi.h), and its end.
 *
 * Held in the exchange's arena from the first use until the request's task is
 * over. At most one operation at a time; Lua sees to that. A request whose task
 * is ended while the store works lets go of the operation. */
#ifndef MOON_VM_VM_API_SESSION_H
#define MOON_VM_VM_API_SESSION_H

#include "base/config.h"
#include "http/exchange.h"
#include "state/session.h"

/* The times of sessions, and of what a request may ask of the store. */
struct moon_session_settings moon_vm_session_settings(
    const struct moon_config *config);

/* The request is over: what is under way is cancelled, memory freed. */
void moon_held_session_end(struct moon_exchange *x);

#endif
