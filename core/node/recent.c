#include "node/recent.h"

enum { EVERY_MS = 1000, PLACES = MOON_RECENT_SECONDS + 1 };

static void look(const struct moon_shm *shm, uint64_t now_ms,
                 struct moon_recent_sample *out)
{
    *out = (struct moon_recent_sample){.at_ms = now_ms};
    for (int c = MOON_COUNTER_status_2xx; c <= MOON_COUNTER_status_5xx; c++)
        out->answered += moon_shm_sum(shm, (enum moon_counter)c);
    out->errors = moon_shm_sum(shm, MOON_COUNTER_status_5xx);
    for (uint32_t s = 0; s < shm->slot_count; s++)
        for (int i = 0; i < MOON_TOOK_BUCKETS; i++)
            out->took[i] += moon_shm_get(&shm->slots[s].took[i]);
}

void moon_recent_tick(struct moon_recent *recent, const struct moon_shm *shm,
                      uint64_t now_ms)
{
    if (recent->count > 0 &&
        now_ms - recent->samples[recent->newest].at_ms < EVERY_MS)
        return;
    recent->newest = recent->count == 0 ? 0 : (recent->newest + 1) % PLACES;
    if (recent->count < PLACES)
        recent->count++;
    look(shm, now_ms, &recent->samples[recent->newest]);
}

static double quantile(const uint64_t *took, uint64_t count, double share)
{
    double wanted = share * (double)count, below = 0;
    for (int i = 0; i < MOON_TOOK_BOUNDS; i++) {
        double here = (double)took[i];
        if (here > 0 && below + here >= wanted) {
            double from = i > 0 ? moon_took_bounds_s[i - 1] : 0;
            return from +
                   (moon_took_bounds_s[i] - from) * (wanted - below) / here;
        }
        below += here;
    }
    return moon_took_bounds_s[MOON_TOOK_BOUNDS - 1];
}

void moon_recent_get(const struct moon_recent *recent,
                     const struct moon_shm *shm, uint64_t now_ms,
                     struct moon_recent_rates *out)
{
    *out = (struct moon_recent_rates){0};
    if (recent->count == 0)
        return;
    uint32_t at = recent->count < PLACES ? 0 : (recent->newest + 1) % PLACES;
    const struct moon_recent_sample *from = &recent->samples[at];
    struct moon_recent_sample now;
    if (now_ms <= from->at_ms)
        return;
    look(shm, now_ms, &now);
    out->seconds = (double)(now_ms - from->at_ms) / 1000;
    out->requests_per_s =
        (double)(now.answered - from->answered) / out->seconds;
    out->errors_per_s = (double)(now.errors - from->errors) / out->seconds;
    uint64_t count = 0;
    for (int i = 0; i < MOON_TOOK_BUCKETS; i++)
        count += now.took[i] -= from->took[i];
    if (count > 0) {
        out->p50_s = quantile(now.took, count, 0.5);
        out->p99_s = quantile(now.took, count, 0.99);
    }
}
