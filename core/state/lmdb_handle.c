#include "state/lmdb_handle.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <unistd.h>

enum {
    SOON_MS = 20,      /* others are just opening it */
    OPENING_MS = 2000, /* so long it only counts as slow */
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
    ENLARGE_PART = 8,
    ENLARGE_MIN = 1024 * 1024,
    PIN_WAIT_US = 20,
};

static uint64_t map_bytes_of(const struct moon_lmdb_handle *h)
{
    uint64_t part = h->size_bytes / ENLARGE_PART;
    return !h->enlarged
               ? h->size_bytes
               : h->size_bytes + (part > ENLARGE_MIN ? part : ENLARGE_MIN);
}

static void note_failure(struct moon_lmdb_handle *h, int rc, const char *whyz)
{
    uint64_t now_ms = moon_clock_ms();
    bool soon =
        (rc == EAGAIN || rc == ETXTBSY) && now_ms - h->opening_ms < OPENING_MS;
    h->delay_ms = soon               ? SOON_MS
                  : h->delay_ms == 0 ? RETRY_MIN_MS
                                     : h->delay_ms * 2;
    if (h->delay_ms > RETRY_MAX_MS)
        h->delay_ms = RETRY_MAX_MS;
    h->retry_ms = now_ms + h->delay_ms;
    if (!soon)
        moon_lmdb_health_closed(h->health, whyz);
}

bool moon_lmdb_handle_open_if_due(struct moon_lmdb_handle *h)
{
    char why[MOON_SESSION_WHY] = "";
    uint64_t now_ms = moon_clock_ms();
    if (h->env != NULL || now_ms < h->retry_ms)
        return false;
    if (h->opening_ms == 0)
        h->opening_ms = now_ms;
    moon_lmdb_health_opening(h->health);
    int rc = moon_lmdb_env_open(
        &(struct moon_lmdb_env_options){.dirz = h->dirz,
                                        .size_bytes = h->size_bytes,
                                        .map_bytes = map_bytes_of(h),
                                        .follow = h->follow},
        &h->env, why);
    if (rc != 0) {
        note_failure(h, rc, why);
        return false;
    }
    h->opening_ms = h->delay_ms = 0;
    moon_lmdb_health_opened(h->health);
    atomic_store(&h->shown, h->env);
    return true;
}

void moon_lmdb_handle_close(struct moon_lmdb_handle *h)
{
    atomic_store(&h->shown, NULL);
    while (atomic_load(&h->pinned))
        (void)usleep(PIN_WAIT_US);
    moon_lmdb_env_close(h->env);
    h->env = NULL;
    h->retry_ms = 0;
}

bool moon_lmdb_handle_renew(struct moon_lmdb_handle *h, int rc)
{
    enum moon_lmdb_trouble trouble = moon_lmdb_trouble_of(rc);
    if (h->env == NULL)
        return false;
    if (trouble == MOON_LMDB_DAMAGE) {
        moon_log(MOON_LOG_ERROR,
                 "sessions: LMDB cannot use %s/" MOON_LMDB_DATA
                 ": %s; having it checked",
                 h->dirz, moon_lmdb_describe(rc));
        moon_lmdb_env_distrust(h->env);
    }
    h->follow = h->follow || trouble == MOON_LMDB_FOLLOW;
    moon_lmdb_handle_close(h);
    return moon_lmdb_handle_open_if_due(h);
}

bool moon_lmdb_handle_enlarge(struct moon_lmdb_handle *h)
{
    if (h->enlarged)
        return false;
    h->enlarged = true;
    moon_lmdb_handle_close(h);
    return moon_lmdb_handle_open_if_due(h);
}

/* Each side writes its flag before it reads the other's: so the loop is out
 * when the writer sees `pinned` down, or the loop sees no environment. */
struct moon_lmdb_env *moon_lmdb_handle_pin(struct moon_lmdb_handle *h)
{
    atomic_store(&h->pinned, true);
    struct moon_lmdb_env *env = atomic_load(&h->shown);
    if (env == NULL)
        atomic_store(&h->pinned, false);
    return env;
}

void moon_lmdb_handle_unpin(struct moon_lmdb_handle *h)
{
    atomic_store_explicit(&h->pinned, false, memory_order_release);
}
