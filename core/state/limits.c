#include "state/limits.h"

#include "base/clock.h"
#include "base/random.h"
#include "state/leases.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum {
    LAYOUT = 1,
    WAYS = 8,
    STRIPES = 256,
    HASH_KEY = crypto_shorthash_KEYBYTES,
};

struct stripe {
    _Alignas(64) pthread_mutex_t mutex;
};

/* Shared by both tables. */
struct common {
    unsigned char hash_key[HASH_KEY];
    _Atomic uint64_t lost;
    struct stripe stripes[STRIPES];
};

/* Eight to two cache lines. */
struct bucket_slot {
    uint64_t key; /* 0: free */
    uint64_t at_ns;
};

struct window_slot {
    uint64_t key;
    uint64_t at_ns, until_ns; /* it counts until then */
    uint32_t now_count, before_count;
};

struct moon_limits {
    struct common *common;
    struct bucket_slot *buckets;
    struct window_slot *windows;
    struct moon_leases *leases; /* owned */
    uint32_t sets;              /* of each table, a power of two */
};

static void init_common(void *extent, size_t size, void *ctx)
{
    struct common *common = extent;
    (void)size;
    (void)ctx;
    moon_random_bytes(common->hash_key, sizeof(common->hash_key));
    for (int i = 0; i < STRIPES; i++)
        moon_robust_init(&common->stripes[i].mutex);
}

struct moon_limits *moon_limits_open(struct moon_region *region, uint32_t keys,
                                     uint32_t slots, uint32_t slot)
{
    struct moon_limits *limits = calloc(1, sizeof(*limits));
    if (limits == NULL)
        return NULL;
    limits->sets = 1;
    while ((uint64_t)limits->sets * WAYS < keys && limits->sets < 1u << 28)
        limits->sets *= 2;
    size_t room = (size_t)limits->sets * WAYS;
    limits->common = moon_region_extent(
        region, "limits", LAYOUT, sizeof(struct common), init_common, NULL);
    limits->buckets =
        moon_region_extent(region, "limits: buckets", LAYOUT,
                           room * sizeof(struct bucket_slot), NULL, NULL);
    limits->windows =
        moon_region_extent(region, "limits: windows", LAYOUT,
                           room * sizeof(struct window_slot), NULL, NULL);
    limits->leases = moon_leases_open(region, slots, slot, limits->sets);
    if (limits->common == NULL || limits->buckets == NULL ||
        limits->windows == NULL || limits->leases == NULL) {
        moon_limits_close(limits);
        return NULL;
    }
    return limits;
}

void moon_limits_close(struct moon_limits *limits)
{
    if (limits != NULL)
        moon_leases_close(limits->leases);
    free(limits);
}

uint64_t moon_limits_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec +
           moon_clock_shift_ns;
}

uint64_t moon_limits_lost(const struct moon_limits *limits)
{
    return atomic_load_explicit(&limits->common->lost, memory_order_relaxed);
}

/* ---- keys ---- */

static uint64_t hash(const struct moon_limits *limits, const void *bytes,
                     size_t len)
{
    uint64_t out;
    (void)crypto_shorthash((unsigned char *)&out, bytes, len,
                           limits->common->hash_key);
    return out;
}

uint64_t moon_limits_salt(const struct moon_limits *limits,
                          struct moon_str name)
{
    return hash(limits, name.ptr, name.len);
}

uint64_t moon_limits_key(const struct moon_limits *limits, uint64_t salt,
                         struct moon_str key)
{
    /* An address fits; what is longer stands there by its hash. */
    uint64_t parts[2] = {salt ^ key.len, 0};
    if (key.len <= sizeof(parts[1]))
        memcpy(&parts[1], key.ptr, key.len);
    else
        parts[1] = hash(limits, key.ptr, key.len);
    uint64_t number = hash(limits, parts, sizeof(parts));
    return number == 0 ? 1 : number;
}

/* ---- sets ---- */

static uint32_t set_of(const struct moon_limits *limits, uint64_t key)
{
    return (uint32_t)key & (limits->sets - 1);
}

static uint32_t stripe_of(const struct moon_limits *limits, uint64_t key)
{
    return set_of(limits, key) % STRIPES;
}

static bool is_window(const struct moon_limit_claim *claim)
{
    return claim->rate->kind == MOON_RATE_SLIDING_WINDOW;
}

static struct bucket_slot *find_bucket(const struct moon_limits *limits,
                                       uint64_t key)
{
    struct bucket_slot *set = &limits->buckets[set_of(limits, key) * WAYS];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
    }
    return NULL;
}

static struct window_slot *find_window(const struct moon_limits *limits,
                                       uint64_t key)
{
    struct window_slot *set = &limits->windows[set_of(limits, key) * WAYS];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
    }
    return NULL;
}

static void count_lost(const struct moon_limits *limits)
{
    (void)atomic_fetch_add_explicit(&limits->common->lost, 1,
                                    memory_order_relaxed);
}

/* The slot to put a new key into: the one whose bucket is, or will be, full
 * first; a free one says 0. */
static struct bucket_slot *victim_bucket(const struct moon_limits *limits,
                                         uint64_t key, uint64_t now_ns)
{
    struct bucket_slot *set = &limits->buckets[set_of(limits, key) * WAYS];
    struct bucket_slot *victim = &set[0];
    for (int i = 1; i < WAYS; i++) {
        if (set[i].at_ns < victim->at_ns)
            victim = &set[i];
    }
    if (victim->at_ns > now_ns)
        count_lost(limits);
    return victim;
}

static struct window_slot *victim_window(const struct moon_limits *limits,
                                         uint64_t key, uint64_t now_ns)
{
    struct window_slot *set = &limits->windows[set_of(limits, key) * WAYS];
    struct window_slot *victim = &set[0];
    for (int i = 1; i < WAYS; i++) {
        if (set[i].until_ns < victim->until_ns)
            victim = &set[i];
    }
    if (victim->until_ns > now_ns)
        count_lost(limits);
    return victim;
}

static void load(const struct moon_limits *limits,
                 const struct moon_limit_claim *claim,
                 struct moon_rate_state *state)
{
    *state = (struct moon_rate_state){0};
    if (is_window(claim)) {
        const struct window_slot *slot = find_window(limits, claim->key);
        if (slot != NULL)
            *state =
                (struct moon_rate_state){.at_ns = slot->at_ns,
                                         .now_count = slot->now_count,
                                         .before_count = slot->before_count};
    } else {
        const struct bucket_slot *slot = find_bucket(limits, claim->key);
        if (slot != NULL)
            state->at_ns = slot->at_ns;
    }
}

static void store(const struct moon_limits *limits,
                  const struct moon_limit_claim *claim,
                  const struct moon_rate_state *state, uint64_t now_ns)
{
    if (is_window(claim)) {
        struct window_slot *slot = find_window(limits, claim->key);
        if (slot == NULL)
            slot = victim_window(limits, claim->key, now_ns);
        *slot = (struct window_slot){.key = claim->key,
                                     .at_ns = state->at_ns,
                                     .until_ns = state->at_ns +
                                                 2 * claim->rate->period_ns,
                                     .now_count = state->now_count,
                                     .before_count = state->before_count};
    } else {
        struct bucket_slot *slot = find_bucket(limits, claim->key);
        if (slot == NULL)
            slot = victim_bucket(limits, claim->key, now_ns);
        *slot = (struct bucket_slot){.key = claim->key, .at_ns = state->at_ns};
    }
}

static bool is_concurrency(const struct moon_limit_claim *claim)
{
    return claim->rate->kind == MOON_RATE_CONCURRENCY;
}

static void check(const struct moon_limits *limits,
                  const struct moon_limit_claim *claim, uint64_t now_ns,
                  uint32_t cost, struct moon_rate_state *next,
                  struct moon_rate_result *result)
{
    if (is_concurrency(claim)) {
        uint32_t used = moon_leases_count(limits->leases, claim->key,
                                          claim->rate->quota, now_ns);
        moon_rate_check_concurrency(claim->rate, used, cost, result);
    } else {
        struct moon_rate_state state;
        load(limits, claim, &state);
        moon_rate_check(claim->rate, &state, now_ns, cost, next, result);
    }
}

static void commit(const struct moon_limits *limits,
                   const struct moon_limit_claim *claim,
                   const struct moon_rate_state *next, uint64_t now_ns,
                   struct moon_rate_result *result)
{
    if (!is_concurrency(claim)) {
        store(limits, claim, next, now_ns);
    } else if (claim->cost > 0) {
        bool lost;
        result->lease = moon_leases_take(
            limits->leases, claim->key, now_ns + claim->rate->period_ns, &lost);
        if (lost)
            count_lost(limits);
    }
}

/* ---- several at once ---- */

/* The stripes of the claims, each once, in the order in which everybody locks
 * them. */
static uint32_t sort_stripes(const struct moon_limits *limits,
                             const struct moon_limit_claim *claims,
                             uint32_t count, uint32_t *stripes)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t stripe = stripe_of(limits, claims[i].key), at = used;
        while (at > 0 && stripes[at - 1] > stripe)
            at--;
        if (at > 0 && stripes[at - 1] == stripe)
            continue;
        for (uint32_t j = used; j > at; j--)
            stripes[j] = stripes[j - 1];
        stripes[at] = stripe;
        used++;
    }
    return used;
}

static void lock(const struct moon_limits *limits, const uint32_t *stripes,
                 uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)moon_robust_lock(&limits->common->stripes[stripes[i]].mutex);
}

static void unlock(const struct moon_limits *limits, const uint32_t *stripes,
                   uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        moon_robust_unlock(&limits->common->stripes[stripes[i]].mutex);
}

bool moon_limits_take(struct moon_limits *limits,
                      const struct moon_limit_claim *claims, uint32_t count,
                      uint64_t now_ns, struct moon_rate_result *results,
                      uint32_t *which)
{
    uint32_t stripes[MOON_LIMIT_CLAIMS_MAX] = {0};
    struct moon_rate_state next[MOON_LIMIT_CLAIMS_MAX];
    bool allowed = true;
    uint32_t used = sort_stripes(limits, claims, count, stripes);
    *which = 0;
    lock(limits, stripes, used);
    for (uint32_t i = 0; i < count; i++) {
        check(limits, &claims[i], now_ns, claims[i].cost, &next[i],
              &results[i]);
        allowed = allowed && results[i].allowed;
        if (moon_rate_is_tighter(claims[i].rate, &results[i],
                                 claims[*which].rate, &results[*which]))
            *which = i;
    }
    for (uint32_t i = 0; allowed && i < count; i++)
        commit(limits, &claims[i], &next[i], now_ns, &results[i]);
    unlock(limits, stripes, used);
    return allowed;
}

void moon_limits_peek(struct moon_limits *limits,
                      const struct moon_limit_claim *claim, uint64_t now_ns,
                      struct moon_rate_result *result)
{
    struct moon_rate_state next;
    struct moon_rate_result one;
    uint32_t stripe = stripe_of(limits, claim->key);
    lock(limits, &stripe, 1);
    check(limits, claim, now_ns, 1, &next, &one);
    check(limits, claim, now_ns, 0, &next, result);
    unlock(limits, &stripe, 1);
    result->allowed = one.allowed;
    result->retry_ns = one.retry_ns;
    result->delay_ns = one.delay_ns;
}

void moon_limits_reset(struct moon_limits *limits,
                       const struct moon_limit_claim *claim)
{
    uint32_t stripe = stripe_of(limits, claim->key);
    lock(limits, &stripe, 1);
    struct bucket_slot *bucket = find_bucket(limits, claim->key);
    struct window_slot *window = find_window(limits, claim->key);
    if (bucket != NULL)
        *bucket = (struct bucket_slot){0};
    if (window != NULL)
        *window = (struct window_slot){0};
    moon_leases_reset(limits->leases, claim->key);
    unlock(limits, &stripe, 1);
}

void moon_limits_undo(struct moon_limits *limits,
                      const struct moon_limit_claim *claim, uint32_t lease,
                      uint64_t now_ns)
{
    if (is_concurrency(claim)) {
        moon_limits_give(limits, claim->key, lease);
        return;
    }
    struct moon_rate_state state, next;
    uint32_t stripe = stripe_of(limits, claim->key);
    lock(limits, &stripe, 1);
    load(limits, claim, &state);
    if (state.at_ns != 0) {
        moon_rate_undo(claim->rate, &state, now_ns, claim->cost, &next);
        store(limits, claim, &next, now_ns);
    }
    unlock(limits, &stripe, 1);
}

void moon_limits_give(struct moon_limits *limits, uint64_t key, uint32_t lease)
{
    if (lease == 0)
        return;
    uint32_t stripe = stripe_of(limits, key);
    lock(limits, &stripe, 1);
    moon_leases_give(limits->leases, key, lease);
    unlock(limits, &stripe, 1);
}
