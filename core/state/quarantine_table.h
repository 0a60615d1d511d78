/* The cells of quarantine (state/quarantine.h) of all routes of a node, in an
 * extent of its region, so that workers decide together.
 *
 * A cell belongs to one route (a key of its methods and pattern) of one
 * generation; it is found once, when the generation begins to serve, and from
 * then on by its pointer. Those of the newest generation and the one before it
 * are kept; others are given away, and whoever still has one notices. So a
 * reload begins with a clean slate, and one that is dropped harms nothing.
 *
 * Any process of the node, any thread; a lock is held for a few stores. */
#ifndef MOON_STATE_QUARANTINE_TABLE_H
#define MOON_STATE_QUARANTINE_TABLE_H

#include "base/compiler.h"
#include "state/quarantine.h"
#include "state/region.h"

enum { MOON_QUARANTINE_CELLS = 4096 };

struct moon_quarantine_table; /* the extent; lives as long as the region */
struct moon_quarantine_slot;  /* a cell and whose it is */

/* Made if need be. NULL: no room. */
MOON_MUST_CHECK struct moon_quarantine_table *moon_quarantine_open(
    struct moon_region *region);

/* NULL: all are taken. `generation` is not 0. */
MOON_MUST_CHECK struct moon_quarantine_slot *moon_quarantine_claim(
    struct moon_quarantine_table *table, uint64_t key, uint64_t generation);

/* Open, and no failure since the last success: nothing to ask, and a success
 * need not be told. No lock. */
bool moon_quarantine_is_open(const struct moon_quarantine_slot *slot);
bool moon_quarantine_is_quiet(const struct moon_quarantine_slot *slot);

/* As those of the cell; PASS and UNCHANGED if it is another's by now. After a
 * change *news (may be NULL) is a copy of the cell. */
enum moon_quarantine_verdict moon_quarantine_enter(
    struct moon_quarantine_table *table, struct moon_quarantine_slot *slot,
    uint64_t generation, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, uint64_t *retry_ms, uint32_t *probe);
enum moon_quarantine_change moon_quarantine_leave(
    struct moon_quarantine_table *table, struct moon_quarantine_slot *slot,
    uint64_t generation, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end,
    struct moon_quarantine_cell *news);

/* Calls `fn` for each route of that generation that is shut off, with a copy of
 * its cell; how many. Takes no lock, so a copy may be torn: it informs. A
 * region without a table has none. `fn` may be NULL. */
uint32_t moon_quarantine_list(
    struct moon_region *region, uint64_t generation,
    void (*fn)(void *ctx, const struct moon_quarantine_cell *cell), void *ctx);

#endif
