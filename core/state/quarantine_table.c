#include "state/quarantine_table.h"

#include <string.h>

enum { LAYOUT = 1, PROBES = 256 };

struct moon_quarantine_slot {
    _Alignas(64) _Atomic uint64_t generation; /* 0: never used */
    uint64_t key;
    struct moon_quarantine_cell cell;
};

struct moon_quarantine_table {
    pthread_mutex_t lock;
    _Atomic uint32_t used; /* something was shut off once: worth a look */
    struct moon_quarantine_slot slots[MOON_QUARANTINE_CELLS];
};

static const char extent_name[] = "quarantine";

static void init_table(void *extent, size_t size, void *ctx)
{
    struct moon_quarantine_table *table = extent;
    (void)size;
    (void)ctx;
    moon_robust_init(&table->lock);
}

struct moon_quarantine_table *moon_quarantine_open(struct moon_region *region)
{
    return moon_region_extent(region, extent_name, LAYOUT,
                              sizeof(struct moon_quarantine_table), init_table,
                              NULL);
}

/* An owner that died left a sound state whatever it had written. */
static void lock(struct moon_quarantine_table *table)
{
    (void)moon_robust_lock(&table->lock);
}

static uint64_t owner(const struct moon_quarantine_slot *slot)
{
    return atomic_load_explicit(&slot->generation, memory_order_relaxed);
}

/* The first slot on its way that is free or given away: what is asked for is
 * not behind it, since it would have been put here, and slots only pass on to
 * newer generations. */
static struct moon_quarantine_slot *find(struct moon_quarantine_table *table,
                                         uint64_t key, uint64_t generation)
{
    for (uint64_t i = 0; i < PROBES; i++) {
        struct moon_quarantine_slot *slot =
            &table->slots[(key + i) % MOON_QUARANTINE_CELLS];
        uint64_t its = owner(slot);
        if (its == generation && slot->key == key)
            return slot;
        if (its + 1 < generation || its == 0) {
            memset(&slot->cell, 0, sizeof(slot->cell));
            slot->key = key;
            atomic_store_explicit(&slot->generation, generation,
                                  memory_order_relaxed);
            return slot;
        }
    }
    return NULL;
}

struct moon_quarantine_slot *moon_quarantine_claim(
    struct moon_quarantine_table *table, uint64_t key, uint64_t generation)
{
    lock(table);
    struct moon_quarantine_slot *slot = find(table, key, generation);
    moon_robust_unlock(&table->lock);
    return slot;
}

bool moon_quarantine_is_open(const struct moon_quarantine_slot *slot)
{
    return atomic_load_explicit(&slot->cell.state, memory_order_relaxed) ==
           MOON_QUARANTINE_OPEN;
}

bool moon_quarantine_is_quiet(const struct moon_quarantine_slot *slot)
{
    return moon_quarantine_is_open(slot) &&
           atomic_load_explicit(&slot->cell.row, memory_order_relaxed) == 0;
}

enum moon_quarantine_verdict moon_quarantine_enter(
    struct moon_quarantine_table *table, struct moon_quarantine_slot *slot,
    uint64_t generation, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, uint64_t *retry_ms, uint32_t *probe)
{
    enum moon_quarantine_verdict verdict = MOON_QUARANTINE_PASS;
    lock(table);
    if (owner(slot) == generation)
        verdict =
            moon_quarantine_ask(&slot->cell, rule, now_ms, retry_ms, probe);
    moon_robust_unlock(&table->lock);
    return verdict;
}

enum moon_quarantine_change moon_quarantine_leave(
    struct moon_quarantine_table *table, struct moon_quarantine_slot *slot,
    uint64_t generation, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end,
    struct moon_quarantine_cell *news)
{
    enum moon_quarantine_change change = MOON_QUARANTINE_UNCHANGED;
    lock(table);
    if (owner(slot) == generation)
        change = moon_quarantine_tell(&slot->cell, rule, now_ms, end);
    if (change == MOON_QUARANTINE_SHUTS)
        atomic_store_explicit(&table->used, 1, memory_order_relaxed);
    if (change != MOON_QUARANTINE_UNCHANGED && news != NULL)
        *news = slot->cell;
    moon_robust_unlock(&table->lock);
    return change;
}

uint32_t moon_quarantine_list(
    struct moon_region *region, uint64_t generation,
    void (*fn)(void *ctx, const struct moon_quarantine_cell *cell), void *ctx)
{
    uint32_t count = 0;
    struct moon_quarantine_table *table =
        moon_region_find(region, extent_name, LAYOUT,
                         sizeof(struct moon_quarantine_table), NULL);
    if (table == NULL ||
        atomic_load_explicit(&table->used, memory_order_relaxed) == 0)
        return 0;
    for (uint32_t i = 0; i < MOON_QUARANTINE_CELLS; i++) {
        const struct moon_quarantine_slot *slot = &table->slots[i];
        if (owner(slot) != generation || generation == 0 ||
            moon_quarantine_is_open(slot))
            continue;
        struct moon_quarantine_cell copy = slot->cell;
        count++;
        if (fn != NULL)
            fn(ctx, &copy);
    }
    return count;
}
