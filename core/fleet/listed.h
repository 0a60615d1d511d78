/* The nodes that work together, as they list themselves in Redis
 * (node/node_list.h). Blocking. */
#ifndef MOON_FLEET_LISTED_H
#define MOON_FLEET_LISTED_H

#include "fleet/target.h"

/* All that were heard of in the last seconds, by name. Another error than
 * MOON_OK is told in `error`: the list cannot be read, or is empty. */
MOON_MUST_CHECK enum moon_err moon_targets_listed(const char *urlz,
                                                  struct moon_targets *to,
                                                  struct moon_buf *error);

#endif
