/* A reload that goes from node to node, and stops where it does harm.
 *
 * Each node reloads; for `settle_ms` afterwards its failures and its times are
 * compared with those of the nodes before the first reload. If they are worse
 * it is rolled back, and those after it are left alone. Blocking; says what it
 * does while it does it. */
#ifndef MOON_FLEET_ROLLING_H
#define MOON_FLEET_ROLLING_H

#include "fleet/target.h"

/* True if all nodes serve the new code. 0 settles at once: then only a reload
 * that fails stops it. */
bool moon_rolling_reload(const struct moon_targets *targets,
                         uint64_t settle_ms);

#endif
