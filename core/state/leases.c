#include "state/leases.h"

#include "state/region.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { LAYOUT = 1, WAYS = 8, WORDS = MOON_LEASES_MAX / 64 };

static const char shared_namez[] = "leases", counts_namez[] = "leases: counts";

/* `tag` says whose key it is and which process of the slot wrote it, in one
 * word: once the slot has another epoch nothing of before matches. */
struct lease {
    _Atomic uint64_t tag; /* 0: free */
    _Atomic uint64_t until_ns;
};

struct holder {
    _Alignas(64) _Atomic uint64_t epoch; /* of the process in this slot */
    _Atomic uint32_t high;               /* leases are below */
    struct lease leases[MOON_LEASES_MAX];
};

struct shared {
    _Alignas(64) _Atomic uint64_t deaths;
    struct holder holders[];
};

struct count_slot {
    uint64_t key; /* 0: free */
    uint64_t deaths;
    uint64_t oldest_ns; /* no lease of it ends before */
    uint32_t count;
};

struct moon_leases {
    struct shared *shared;
    struct count_slot *counts;
    uint32_t slots, slot, sets;
    uint64_t used[WORDS]; /* of our leases */
};

static size_t shared_size(uint32_t slots)
{
    return sizeof(struct shared) + slots * sizeof(struct holder);
}

static uint64_t tag_of(uint64_t key, uint64_t epoch)
{
    uint64_t tag = key ^ (epoch * 0x9e3779b97f4a7c15u);
    return tag == 0 ? 1 : tag;
}

static uint32_t high_of(const struct holder *holder)
{
    uint32_t high = atomic_load_explicit(&holder->high, memory_order_acquire);
    return high < MOON_LEASES_MAX ? high : MOON_LEASES_MAX;
}

/* First the epoch, then the deaths: who sees the second sees the first. */
static void end_slot(struct shared *shared, uint32_t slot)
{
    atomic_fetch_add(&shared->holders[slot].epoch, 1);
    atomic_fetch_add(&shared->deaths, 1);
}

struct moon_leases *moon_leases_open(struct moon_region *region, uint32_t slots,
                                     uint32_t slot, uint32_t sets)
{
    struct moon_leases *leases = calloc(1, sizeof(*leases));
    if (leases == NULL)
        return NULL;
    leases->slots = slots;
    leases->slot = slot;
    leases->sets = sets;
    leases->shared = moon_region_extent(region, shared_namez, LAYOUT,
                                        shared_size(slots), NULL, NULL);
    leases->counts = moon_region_extent(
        region, counts_namez, LAYOUT,
        (size_t)sets * WAYS * sizeof(struct count_slot), NULL, NULL);
    if (leases->shared == NULL || leases->counts == NULL || slot >= slots) {
        free(leases);
        return NULL;
    }
    struct holder *mine = &leases->shared->holders[slot];
    end_slot(leases->shared, slot);
    for (uint32_t i = high_of(mine); i > 0; i--)
        atomic_store(&mine->leases[i - 1].tag, 0);
    atomic_store(&mine->high, 0);
    return leases;
}

void moon_leases_close(struct moon_leases *leases)
{
    free(leases);
}

void moon_leases_end_worker(struct moon_region *region, uint32_t slots,
                            uint32_t slot)
{
    struct shared *shared = moon_region_find(region, shared_namez, LAYOUT,
                                             shared_size(slots), NULL);
    if (shared != NULL && slot < slots)
        end_slot(shared, slot);
}

/* ---- counts ---- */

static struct count_slot *set_of(const struct moon_leases *leases, uint64_t key)
{
    return &leases->counts[((uint32_t)key & (leases->sets - 1)) * WAYS];
}

static struct count_slot *find(const struct moon_leases *leases, uint64_t key)
{
    struct count_slot *set = set_of(leases, key);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
    }
    return NULL;
}

/* All of its leases that still hold; those whose time is over are ended. */
static void recount(struct moon_leases *leases, struct count_slot *slot,
                    uint64_t now_ns)
{
    struct shared *shared = leases->shared;
    slot->deaths = atomic_load(&shared->deaths);
    slot->count = 0;
    slot->oldest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < leases->slots; i++) {
        struct holder *holder = &shared->holders[i];
        uint64_t tag = tag_of(slot->key, atomic_load(&holder->epoch));
        uint32_t high = high_of(holder);
        for (uint32_t j = 0; j < high; j++) {
            struct lease *lease = &holder->leases[j];
            if (atomic_load_explicit(&lease->tag, memory_order_acquire) != tag)
                continue;
            uint64_t until_ns =
                atomic_load_explicit(&lease->until_ns, memory_order_relaxed);
            if (until_ns <= now_ns) {
                atomic_store(&lease->tag, 0);
                continue;
            }
            slot->count++;
            if (until_ns < slot->oldest_ns)
                slot->oldest_ns = until_ns;
        }
    }
}

uint32_t moon_leases_count(struct moon_leases *leases, uint64_t key,
                           uint32_t max, uint64_t now_ns)
{
    struct count_slot *slot = find(leases, key);
    if (slot == NULL)
        return 0;
    bool full = slot->count >= max && slot->oldest_ns <= now_ns;
    if (full || slot->deaths != atomic_load_explicit(&leases->shared->deaths,
                                                     memory_order_acquire))
        recount(leases, slot, now_ns);
    return slot->count;
}

static struct count_slot *make_room(struct moon_leases *leases, uint64_t key,
                                    bool *lost)
{
    struct count_slot *set = set_of(leases, key);
    struct count_slot *victim = &set[0];
    for (int i = 1; i < WAYS; i++) {
        if (set[i].count < victim->count)
            victim = &set[i];
    }
    *lost = victim->count > 0;
    *victim = (struct count_slot){
        .key = key,
        .deaths = atomic_load(&leases->shared->deaths),
        .oldest_ns = UINT64_MAX,
    };
    return victim;
}

/* ---- leases ---- */

static uint32_t take_index(struct moon_leases *leases)
{
    for (uint32_t word = 0; word < WORDS; word++) {
        uint64_t free_bits = ~leases->used[word];
        if (free_bits != 0) {
            uint32_t bit = (uint32_t)__builtin_ctzll(free_bits);
            leases->used[word] |= 1ull << bit;
            return word * 64 + bit + 1;
        }
    }
    return 0;
}

uint32_t moon_leases_take(struct moon_leases *leases, uint64_t key,
                          uint64_t until_ns, bool *lost)
{
    *lost = false;
    uint32_t number = take_index(leases);
    if (number == 0) {
        *lost = true;
        return 0;
    }
    struct holder *mine = &leases->shared->holders[leases->slot];
    struct lease *lease = &mine->leases[number - 1];
    struct count_slot *slot = find(leases, key);
    if (slot == NULL)
        slot = make_room(leases, key, lost);
    atomic_store_explicit(&lease->until_ns, until_ns, memory_order_relaxed);
    if (number > high_of(mine))
        atomic_store_explicit(&mine->high, number, memory_order_release);
    /* The lease first: if we die in between, it is counted from it. */
    atomic_store_explicit(&lease->tag, tag_of(key, atomic_load(&mine->epoch)),
                          memory_order_release);
    slot->count++;
    if (until_ns < slot->oldest_ns)
        slot->oldest_ns = until_ns;
    return number;
}

void moon_leases_give(struct moon_leases *leases, uint64_t key, uint32_t lease)
{
    if (lease == 0 || lease > MOON_LEASES_MAX)
        return;
    struct holder *mine = &leases->shared->holders[leases->slot];
    uint64_t tag = tag_of(key, atomic_load(&mine->epoch));
    uint32_t index = lease - 1;
    leases->used[index / 64] &= ~(1ull << (index % 64));
    if (atomic_load(&mine->leases[index].tag) != tag)
        return; /* its time was over */
    struct count_slot *slot = find(leases, key);
    atomic_store(&mine->leases[index].tag, 0);
    if (slot == NULL)
        return;
    if (slot->count > 1)
        slot->count--;
    else
        *slot = (struct count_slot){0};
}

void moon_leases_reset(struct moon_leases *leases, uint64_t key)
{
    struct count_slot *slot = find(leases, key);
    if (slot == NULL)
        return;
    recount(leases, slot, UINT64_MAX);
    *slot = (struct count_slot){0};
}
