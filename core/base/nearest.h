/* "did you mean ...?": the known name that is nearest to a wrong one.
 *
 * Used for options, configuration keys, methods of the context. Pure; names of
 * up to 64 bytes. */
#ifndef MOON_BASE_NEAREST_H
#define MOON_BASE_NEAREST_H

#include "base/str.h"

/* How many single-byte insertions, deletions, replacements and swaps of
 * neighbours turn one into the other; SIZE_MAX if either is too long. */
size_t moon_edit_distance(struct moon_str a, struct moon_str b);

/* Keeps the best of the names offered. */
struct moon_nearest {
    struct moon_str wanted;
    struct moon_str best; /* borrowed from moon_nearest_offer */
    size_t distance;
};

void moon_nearest_init(struct moon_nearest *nearest, struct moon_str wanted);
void moon_nearest_offer(struct moon_nearest *nearest, struct moon_str name);
/* Is the best one near enough to be worth mentioning? */
bool moon_nearest_found(const struct moon_nearest *nearest);

#endif
