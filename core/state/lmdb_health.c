#include "state/lmdb_health.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <time.h>

enum { STUCK_MS = 2000, RETRY_MIN_MS = 100, RETRY_MAX_MS = 5000 };

void moon_lmdb_health_init(struct moon_lmdb_health *health, const char *dirz)
{
    *health = (struct moon_lmdb_health){
        .dirz = dirz, .since = moon_clock_wall(), .why = "it is being opened"};
    (void)pthread_mutex_init(&health->lock, NULL);
}

void moon_lmdb_health_deinit(struct moon_lmdb_health *health)
{
    (void)pthread_mutex_destroy(&health->lock);
}

/* ---- by the writer ---- */

/* True if that is news. */
static bool set(struct moon_lmdb_health *health, enum moon_lmdb_state state,
                enum moon_err err, const char *whyz)
{
    (void)pthread_mutex_lock(&health->lock);
    bool other = !moon_lmdb_health_is(health, state);
    bool news = other || strncmp(health->why, whyz, MOON_SESSION_WHY - 1) != 0;
    if (other)
        health->since = moon_clock_wall();
    health->err = err;
    (void)snprintf(health->why, sizeof(health->why), "%s", whyz);
    atomic_store(&health->state, state);
    (void)pthread_mutex_unlock(&health->lock);
    return news;
}

void moon_lmdb_health_opening(struct moon_lmdb_health *health)
{
    if (!moon_lmdb_health_is(health, MOON_LMDB_CLOSED))
        (void)set(health, MOON_LMDB_OPENING, MOON_ECLOSED,
                  "it is being opened");
}

void moon_lmdb_health_opened(struct moon_lmdb_health *health)
{
    bool was_closed = moon_lmdb_health_is(health, MOON_LMDB_CLOSED);
    (void)set(health, MOON_LMDB_UP, MOON_OK, "");
    if (was_closed)
        moon_log(MOON_LOG_INFO, "sessions: the store in %s works",
                 health->dirz);
}

void moon_lmdb_health_closed(struct moon_lmdb_health *health, const char *whyz)
{
    if (set(health, MOON_LMDB_CLOSED, MOON_ECLOSED, whyz))
        moon_log(MOON_LOG_ERROR,
                 "sessions: the store in %s cannot be opened: %s; trying on",
                 health->dirz, whyz);
}

void moon_lmdb_health_broke(struct moon_lmdb_health *health, enum moon_err err,
                            const char *whyz)
{
    health->delay_ms =
        health->delay_ms == 0 ? RETRY_MIN_MS : health->delay_ms * 2;
    if (health->delay_ms > RETRY_MAX_MS)
        health->delay_ms = RETRY_MAX_MS;
    atomic_store(&health->retry_ms, moon_clock_ms() + health->delay_ms);
    if (set(health, MOON_LMDB_READ_ONLY, err, whyz))
        moon_log(MOON_LOG_ERROR,
                 "sessions: nothing can be written in %s: %s; trying on",
                 health->dirz, whyz);
}

void moon_lmdb_health_wrote(struct moon_lmdb_health *health)
{
    health->delay_ms = 0;
    if (!moon_lmdb_health_is(health, MOON_LMDB_READ_ONLY))
        return;
    (void)set(health, MOON_LMDB_UP, MOON_OK, "");
    moon_log(MOON_LOG_INFO, "sessions: the store in %s can be written again",
             health->dirz);
}

void moon_lmdb_health_busy(struct moon_lmdb_health *health, bool busy)
{
    atomic_store(&health->busy_ms, busy ? moon_clock_ms() : 0);
}

/* ---- by both ---- */

void moon_lmdb_health_why(struct moon_lmdb_health *health,
                          char why[MOON_SESSION_WHY])
{
    (void)pthread_mutex_lock(&health->lock);
    (void)snprintf(why, MOON_SESSION_WHY, "%s", health->why);
    (void)pthread_mutex_unlock(&health->lock);
}

enum moon_err moon_lmdb_health_refuses(struct moon_lmdb_health *health,
                                       char why[MOON_SESSION_WHY])
{
    bool closed = moon_lmdb_health_is(health, MOON_LMDB_CLOSED);
    if (MOON_LIKELY(!closed &&
                    !(moon_lmdb_health_is(health, MOON_LMDB_READ_ONLY) &&
                      moon_clock_ms() < atomic_load(&health->retry_ms))))
        return MOON_OK;
    moon_lmdb_health_why(health, why);
    (void)pthread_mutex_lock(&health->lock);
    enum moon_err err = health->err;
    (void)pthread_mutex_unlock(&health->lock);
    return err != MOON_OK ? err : MOON_ECLOSED;
}

bool moon_lmdb_health_tell(struct moon_lmdb_health *health, char *to,
                           size_t size)
{
    uint64_t busy_ms = atomic_load(&health->busy_ms);
    if (moon_lmdb_health_is(health, MOON_LMDB_UP)) {
        uint64_t now_ms = busy_ms == 0 ? 0 : moon_clock_ms();
        if (busy_ms == 0 || now_ms < busy_ms + STUCK_MS)
            return false;
        (void)snprintf(to, size,
                       "writing stands still for %llu s: another process holds "
                       "the lock, or the disk does not answer",
                       (unsigned long long)(now_ms - busy_ms) / 1000);
        return true;
    }
    (void)pthread_mutex_lock(&health->lock);
    time_t seconds = (time_t)health->since;
    struct tm utc;
    char since[32];
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &utc);
    (void)snprintf(to, size, "%s since %s UTC: %s",
                   moon_lmdb_health_is(health, MOON_LMDB_READ_ONLY)
                       ? "cannot be written"
                       : "not open",
                   since, health->why);
    (void)pthread_mutex_unlock(&health->lock);
    return true;
}
