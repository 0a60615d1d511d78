/* What the process lends to every generation of code that runs in it, and what
 * therefore outlives them all: limits, metrics, and what else is shared.
 *
 * One per process that runs applications: the worker's lies over the node's
 * region, the probe's over one of its own. Made before the first VM and
 * destroyed after the last; a VM that is being built on another thread only
 * reads it. */
#ifndef MOON_STATE_COMMONS_H
#define MOON_STATE_COMMONS_H

#include "base/config.h"
#include "state/cluster_limits.h"
#include "state/limits.h"
#include "state/metrics.h"

struct moon_commons {
    struct moon_region *region; /* borrowed, or owned: see `own_region` */
    bool own_region;
    struct moon_limits *limits;   /* owned */
    struct moon_metrics *metrics; /* owned */
    uint32_t slot;                /* of this process in both tables */
    /* The node's own, borrowed, and the number of the metric that counts
     * refusals in it by limit. NULL where nobody counts (a probe). */
    struct moon_metrics *node_metrics;
    uint32_t refusals;
    struct moon_cluster_news *news; /* borrowed; NULL: no other node concerns
                                       it (a probe) */
};

/* `region` NULL: makes one that nobody else sees. The process is the one of
 * `slot` among `slots`. */
MOON_MUST_CHECK enum moon_err moon_commons_init(
    struct moon_commons *commons, struct moon_region *region, uint32_t slots,
    uint32_t slot, const struct moon_config *config);
void moon_commons_deinit(struct moon_commons *commons);

#endif
