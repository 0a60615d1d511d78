/* A wall clock that a test sets, forward and back; what runs on and on
 * (CLOCK_MONOTONIC, CLOCK_BOOTTIME, timers) does not notice. A condition that
 * waits until a time of the wall clock does: it sees the step, as it would. */
#include "faults.h"

#include <errno.h>
#include <pthread.h>
#include <sys/time.h>
#include <time.h>

#define SECOND 1000000000ll

static void add(struct timespec *time, int64_t ns)
{
    int64_t all = (int64_t)time->tv_nsec + ns % SECOND;
    time->tv_sec += ns / SECOND + (all >= SECOND) - (all < 0);
    time->tv_nsec = (long)((all + SECOND) % SECOND);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    FAULT_REAL(clock_gettime);
    int status = real(clock, now);
    int64_t ns = fault_wall_ns();
    if (status == 0 && ns != 0 &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(now, ns);
    return status;
}

int gettimeofday(struct timeval *now, void *zone)
{
    (void)zone;
    struct timespec exact;
    (void)clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

/* In pieces, so that a step is seen while it waits. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond,
                           pthread_mutex_t *restrict lock,
                           const struct timespec *restrict until)
{
    FAULT_REAL(pthread_cond_timedwait);
    /* Of a clock that began with the machine? */
    if (until->tv_sec < 1000000000)
        return real(cond, lock, until);
    for (;;) {
        struct timespec piece;
        (void)clock_gettime(CLOCK_REALTIME, &piece);
        add(&piece, SECOND / 50);
        bool last =
            piece.tv_sec > until->tv_sec ||
            (piece.tv_sec == until->tv_sec && piece.tv_nsec >= until->tv_nsec);
        if (last)
            piece = *until;
        add(&piece, -fault_wall_ns());
        int status = real(cond, lock, &piece);
        if (last || status != ETIMEDOUT)
            return status;
    }
}
