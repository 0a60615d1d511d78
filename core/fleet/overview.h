/* Several nodes in one table, and what sets them apart. */
#ifndef MOON_FLEET_OVERVIEW_H
#define MOON_FLEET_OVERVIEW_H

#include "fleet/target.h"

#include <stdio.h>

/* One line a node, then what is worth a look: nodes that do not answer, that
 * are not ready, or that serve different code or are of another version. False
 * if one does not answer. Blocking. */
bool moon_overview_print(const struct moon_targets *targets, FILE *out);
/* {"nodes":[...]}: what each answers, or {"node":...,"error":...}. */
bool moon_overview_print_json(const struct moon_targets *targets, FILE *out);

#endif
