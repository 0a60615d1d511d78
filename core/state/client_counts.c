#include "state/client_counts.h"

#include "base/random.h"
#include "state/region.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A client's word is one of WINDOW at its place. With fewer than half of the
 * words in use a window is hardly ever full. */
enum { LAYOUT = 1, WORDS = 1 << 17, WINDOW = 16, COUNT_BITS = 20 };

#define COUNT_MAX ((1u << COUNT_BITS) - 1)

static const char tables_namez[] = "client counts";
static const char key_namez[] = "client counts: key";

/* Touched only where there are clients. A word is what the hash has beside the
 * place, and the count in its low bits; 0 is free. */
struct table {
    _Alignas(64) _Atomic uint32_t live; /* else nothing in it counts */
    uint32_t used;                      /* the worker's: something is in it */
    _Atomic uint64_t words[WORDS + WINDOW];
};

struct secret {
    unsigned char bytes[crypto_shorthash_KEYBYTES];
};

struct moon_client_counts {
    struct table *tables;
    const struct secret *secret;
    uint32_t slots, slot;
};

static void init_secret(void *extent, size_t size, void *ctx)
{
    (void)ctx;
    moon_random_bytes(extent, size);
}

static size_t tables_size(uint32_t slots)
{
    return (size_t)slots * sizeof(struct table);
}

struct moon_client_counts *moon_client_counts_open(struct moon_region *region,
                                                   uint32_t slots,
                                                   uint32_t slot)
{
    struct moon_client_counts *counts = calloc(1, sizeof(*counts));
    if (counts == NULL)
        return NULL;
    counts->slots = slots;
    counts->slot = slot;
    counts->secret = moon_region_extent(
        region, key_namez, LAYOUT, sizeof(struct secret), init_secret, NULL);
    counts->tables = moon_region_extent(region, tables_namez, LAYOUT,
                                        tables_size(slots), NULL, NULL);
    if (counts->secret == NULL || counts->tables == NULL || slot >= slots) {
        free(counts);
        return NULL;
    }
    struct table *mine = &counts->tables[slot];
    atomic_store(&mine->live, 0);
    if (mine->used != 0)
        memset(mine->words, 0, sizeof(mine->words));
    mine->used = 0;
    atomic_store(&mine->live, 1);
    return counts;
}

void moon_client_counts_close(struct moon_client_counts *counts)
{
    free(counts);
}

void moon_client_counts_end_worker(struct moon_region *region, uint32_t slots,
                                   uint32_t slot)
{
    struct table *tables = moon_region_find(region, tables_namez, LAYOUT,
                                            tables_size(slots), NULL);
    if (tables != NULL && slot < slots)
        atomic_store(&tables[slot].live, 0);
}

struct place {
    uint32_t at;
    uint64_t tag; /* with no count */
};

static struct place place_of(const struct moon_client_counts *counts,
                             const uint8_t addr[MOON_CLIENT_ADDR])
{
    uint64_t hash;
    (void)crypto_shorthash((unsigned char *)&hash, addr, MOON_CLIENT_ADDR,
                           counts->secret->bytes);
    uint64_t tag = hash & ~(uint64_t)COUNT_MAX;
    return (struct place){
        .at = (uint32_t)hash & (WORDS - 1),
        .tag = tag == 0 ? (uint64_t)COUNT_MAX + 1 : tag,
    };
}

/* The client's word, or NULL. */
static _Atomic uint64_t *find(struct table *table, struct place place)
{
    for (uint32_t i = place.at; i < place.at + WINDOW; i++) {
        uint64_t word = atomic_load(&table->words[i]);
        if ((word & ~(uint64_t)COUNT_MAX) == place.tag)
            return &table->words[i];
    }
    return NULL;
}

bool moon_client_counts_add(struct moon_client_counts *counts,
                            const uint8_t addr[MOON_CLIENT_ADDR])
{
    struct table *mine = &counts->tables[counts->slot];
    struct place place = place_of(counts, addr);
    _Atomic uint64_t *word = find(mine, place);
    if (word != NULL) {
        uint64_t value = atomic_load(word);
        if ((value & COUNT_MAX) == COUNT_MAX)
            return false;
        atomic_store(word, value + 1);
        return true;
    }
    for (uint32_t i = place.at; i < place.at + WINDOW; i++) {
        if (atomic_load(&mine->words[i]) == 0) {
            mine->used = 1;
            atomic_store(&mine->words[i], place.tag + 1);
            return true;
        }
    }
    return false;
}

void moon_client_counts_drop(struct moon_client_counts *counts,
                             const uint8_t addr[MOON_CLIENT_ADDR])
{
    struct table *mine = &counts->tables[counts->slot];
    _Atomic uint64_t *word = find(mine, place_of(counts, addr));
    if (word == NULL)
        return;
    uint64_t value = atomic_load(word);
    atomic_store(word, (value & COUNT_MAX) > 1 ? value - 1 : 0);
}

uint32_t moon_client_counts_get(const struct moon_client_counts *counts,
                                const uint8_t addr[MOON_CLIENT_ADDR])
{
    struct place place = place_of(counts, addr);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < counts->slots; i++) {
        struct table *table = &counts->tables[i];
        if (atomic_load(&table->live) == 0)
            continue;
        const _Atomic uint64_t *word = find(table, place);
        if (word != NULL)
            sum += atomic_load(word) & COUNT_MAX;
    }
    return sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}
