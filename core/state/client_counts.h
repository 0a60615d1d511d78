/* How many connections each client has, over all workers of a node.
 *
 * Each worker counts its own in a table that only it writes, in shared memory;
 * the number of a client is the sum over the tables. So there is no lock, and
 * what a dead worker had counted is gone with its table. A client is found by a
 * keyed hash, so that nobody can aim at another one's place. Counting comes
 * before looking, so that two workers never let in more than the limit
 * together; at the edge both may refuse. One loop thread a process. */
#ifndef MOON_STATE_CLIENT_COUNTS_H
#define MOON_STATE_CLIENT_COUNTS_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

struct moon_client_counts;
struct moon_region; /* state/region.h */

/* What of an address tells clients apart: an IPv4 address, or the /64 of an
 * IPv6 one, which is the least that one customer has. */
enum { MOON_CLIENT_ADDR = 8 };

/* The region's tables for `slots` workers; the process is the one of `slot`,
 * and begins with none. The region is borrowed. NULL: no memory. */
MOON_MUST_CHECK struct moon_client_counts *moon_client_counts_open(
    struct moon_region *region, uint32_t slots, uint32_t slot);
void moon_client_counts_close(struct moon_client_counts *counts); /* or NULL */

/* One more connection of that client. False: nobody counts it, for there is no
 * room; then nothing is to be given back. */
MOON_MUST_CHECK bool moon_client_counts_add(
    struct moon_client_counts *counts, const uint8_t addr[MOON_CLIENT_ADDR]);
void moon_client_counts_drop(struct moon_client_counts *counts,
                             const uint8_t addr[MOON_CLIENT_ADDR]);
/* Over all workers. */
uint32_t moon_client_counts_get(const struct moon_client_counts *counts,
                                const uint8_t addr[MOON_CLIENT_ADDR]);

/* The worker's process is gone; called by the master. */
void moon_client_counts_end_worker(struct moon_region *region, uint32_t slots,
                                   uint32_t slot);

#endif
