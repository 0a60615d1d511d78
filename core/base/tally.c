#include "base/tally.h"

#include <stdatomic.h>

static _Atomic uint64_t tallies[MOON_TALLIES];

void moon_tally_add(enum moon_tally tally, uint64_t count)
{
    (void)atomic_fetch_add_explicit(&tallies[tally], count,
                                    memory_order_relaxed);
}

uint64_t moon_tally_get(enum moon_tally tally)
{
    return atomic_load_explicit(&tallies[tally], memory_order_relaxed);
}

void moon_tally_reset(void)
{
    for (int i = 0; i < MOON_TALLIES; i++)
        atomic_store_explicit(&tallies[i], 0, memory_order_relaxed);
}
