/* One request to a node's admin endpoint, and its answer. Blocking. */
#ifndef MOON_FLEET_ASK_H
#define MOON_FLEET_ASK_H

#include "fleet/target.h"

struct moon_ask {
    const char *methodz, *pathz, *acceptz;
    uint64_t timeout_ms; /* without a byte of the answer; 0: none */
};

/* Status and body of the answer, without the end of its last line;
 * MOONSHINE_ADMIN_TOKEN goes with the request. Any other result: none came, and
 * `error` says why. */
MOON_MUST_CHECK enum moon_err moon_ask_node(const struct moon_target *target,
                                            const struct moon_ask *ask,
                                            int *status, struct moon_buf *body,
                                            struct moon_buf *error);

#endif
