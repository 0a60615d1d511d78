/* Time: one place that reads clocks, so that the hot path reads them once a
 * loop turn and tests can see which clock means what. */
#ifndef MOON_BASE_CLOCK_H
#define MOON_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC, shared by all processes of the machine. */
uint64_t moon_clock_ns(void);
static inline uint64_t moon_clock_ms(void)
{
    return moon_clock_ns() / 1000000u;
}
/* The same to a few milliseconds, for a fraction of the price. */
uint64_t moon_clock_coarse_ms(void);
/* Seconds since 1970 with a fraction (CLOCK_REALTIME and the shift). */
double moon_clock_wall(void);

/* How far a test has moved the time of this process forward (vm/travel.h); 0
 * everywhere else. What the application sees of time follows it; what bounds
 * the application, or waits for other programs, does not. Loop thread. */
extern uint64_t moon_clock_shift_ns;

#endif
