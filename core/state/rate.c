#include "state/rate.h"

#define SECOND_NS 1000000000ull

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool moon_rate_make(enum moon_rate_kind kind, uint32_t rate, uint64_t period_ns,
                    uint32_t burst, struct moon_rate *out)
{
    if (rate == 0 || period_ns == 0 || period_ns > MOON_RATE_PERIOD_MAX_NS)
        return false;
    *out = (struct moon_rate){
        .kind = kind,
        .quota = kind == MOON_RATE_SLIDING_WINDOW ? rate : burst,
        .interval_ns = (period_ns + rate - 1) / rate,
        .period_ns = period_ns,
    };
    if (kind == MOON_RATE_CONCURRENCY) {
        out->quota = rate;
        return true;
    }
    if (kind == MOON_RATE_LEAKY_BUCKET)
        out->quota = burst == UINT32_MAX ? burst : burst + 1;
    if (out->interval_ns < SECOND_NS / MOON_RATE_MAX || out->quota == 0)
        return false;
    return kind == MOON_RATE_SLIDING_WINDOW ||
           out->quota <= MOON_RATE_PERIOD_MAX_NS / out->interval_ns;
}

/* ---- buckets ---- */

static void check_bucket(const struct moon_rate *rate,
                         const struct moon_rate_state *state, uint64_t now_ns,
                         uint32_t cost, struct moon_rate_state *next,
                         struct moon_rate_result *result)
{
    uint64_t full_ns = rate->quota * rate->interval_ns;
    /* Further ahead it cannot be, unless the limit was larger before or the
     * slot was torn; then it counts as empty of room. */
    uint64_t ahead_ns =
        state->at_ns > now_ns ? min64(state->at_ns - now_ns, full_ns) : 0;
    uint64_t used_ns = ahead_ns;
    if (cost <= rate->quota)
        used_ns += cost * rate->interval_ns;
    result->allowed = cost <= rate->quota && used_ns <= full_ns;
    next->at_ns = now_ns + used_ns;
    if (!result->allowed) {
        result->retry_ns =
            cost <= rate->quota ? used_ns - full_ns : MOON_RATE_PERIOD_MAX_NS;
        used_ns = ahead_ns;
    } else if (rate->kind == MOON_RATE_LEAKY_BUCKET) {
        result->delay_ns = ahead_ns;
    }
    result->remaining = (uint32_t)((full_ns - used_ns) / rate->interval_ns);
    result->reset_ns = used_ns;
}

/* ---- windows ---- */

static uint64_t scale_up(uint64_t value, uint64_t by, uint64_t of)
{
    return (uint64_t)(((moon_u128)value * by + of - 1) / of);
}

/* When the weight of `count` that passed in a window falls to `room`, counted
 * from that window's end. */
static uint64_t decay_ns(uint64_t window_ns, uint32_t count, uint64_t room)
{
    if (count <= room)
        return 0;
    uint64_t kept = (uint64_t)((moon_u128)room * window_ns / count);
    return window_ns - kept;
}

/* Windows begin at multiples of their length. */
static void advance(uint64_t window_ns, const struct moon_rate_state *state,
                    uint64_t now_ns, struct moon_rate_state *next)
{
    uint64_t begin = now_ns - now_ns % window_ns;
    *next = (struct moon_rate_state){.at_ns = begin};
    if (state->at_ns == begin)
        *next = *state;
    else if (begin >= window_ns && state->at_ns == begin - window_ns)
        next->before_count = state->now_count;
}

static void check_window(const struct moon_rate *rate,
                         const struct moon_rate_state *state, uint64_t now_ns,
                         uint32_t cost, struct moon_rate_state *next,
                         struct moon_rate_result *result)
{
    uint64_t window_ns = rate->period_ns;
    advance(window_ns, state, now_ns, next);
    uint64_t elapsed = now_ns - next->at_ns, left = window_ns - elapsed;
    uint64_t weight = scale_up(next->before_count, left, window_ns);
    uint64_t used = next->now_count + weight;
    result->allowed = used + cost <= rate->quota;
    if (result->allowed) {
        next->now_count += cost;
        used += cost;
    } else if (cost > rate->quota) {
        result->retry_ns = MOON_RATE_PERIOD_MAX_NS;
    } else if ((uint64_t)next->now_count + cost <= rate->quota) {
        uint64_t room = rate->quota - cost - next->now_count;
        result->retry_ns =
            decay_ns(window_ns, next->before_count, room) - elapsed;
    } else {
        result->retry_ns =
            left + decay_ns(window_ns, next->now_count, rate->quota - cost);
    }
    result->remaining = used < rate->quota ? (uint32_t)(rate->quota - used) : 0;
    result->reset_ns = next->now_count > 0      ? left + window_ns
                       : next->before_count > 0 ? left
                                                : 0;
}

void moon_rate_check(const struct moon_rate *rate,
                     const struct moon_rate_state *state, uint64_t now_ns,
                     uint32_t cost, struct moon_rate_state *next,
                     struct moon_rate_result *result)
{
    *result = (struct moon_rate_result){0};
    *next = (struct moon_rate_state){0};
    if (rate->kind == MOON_RATE_SLIDING_WINDOW)
        check_window(rate, state, now_ns, cost, next, result);
    else
        check_bucket(rate, state, now_ns, cost, next, result);
}

void moon_rate_check_concurrency(const struct moon_rate *rate, uint32_t used,
                                 uint32_t cost, struct moon_rate_result *result)
{
    uint32_t left = used < rate->quota ? rate->quota - used : 0;
    *result = (struct moon_rate_result){.allowed = cost <= left};
    result->remaining = result->allowed ? left - cost : left;
    if (!result->allowed)
        result->retry_ns =
            cost <= rate->quota ? SECOND_NS : MOON_RATE_PERIOD_MAX_NS;
}

void moon_rate_undo(const struct moon_rate *rate,
                    const struct moon_rate_state *state, uint64_t now_ns,
                    uint32_t cost, struct moon_rate_state *next)
{
    *next = *state;
    if (rate->kind == MOON_RATE_SLIDING_WINDOW) {
        advance(rate->period_ns, state, now_ns, next);
        uint32_t *count = next->at_ns == state->at_ns ? &next->now_count
                                                      : &next->before_count;
        *count -= cost < *count ? cost : *count;
    } else {
        next->at_ns -= min64(state->at_ns, cost * rate->interval_ns);
    }
}

void moon_rate_share(const struct moon_rate *rate, uint32_t nodes,
                     struct moon_rate *out)
{
    *out = *rate;
    if (nodes <= 1)
        return;
    out->quota = rate->quota / nodes > 0 ? rate->quota / nodes : 1;
    if (rate->kind != MOON_RATE_CONCURRENCY &&
        rate->kind != MOON_RATE_SLIDING_WINDOW)
        out->interval_ns = rate->interval_ns * nodes;
}

bool moon_rate_is_tighter(const struct moon_rate *rate_a,
                          const struct moon_rate_result *a,
                          const struct moon_rate *rate_b,
                          const struct moon_rate_result *b)
{
    if (a->allowed != b->allowed)
        return !a->allowed;
    if (!a->allowed)
        return a->retry_ns > b->retry_ns;
    return (uint64_t)a->remaining * rate_b->quota <
           (uint64_t)b->remaining * rate_a->quota;
}
