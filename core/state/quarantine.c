#include "state/quarantine.h"

#include <string.h>

static uint32_t load(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

struct moon_str moon_quarantine_text(const char *text, size_t size)
{
    return moon_str(text, strnlen(text, size));
}

static void keep(char *to, size_t size, struct moon_str text)
{
    size_t len = text.len < size ? text.len : size;
    if (len > 0)
        memcpy(to, text.ptr, len);
    memset(to + len, 0, size - len);
}

enum moon_quarantine_verdict moon_quarantine_ask(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, uint64_t *retry_ms, uint32_t *probe)
{
    uint32_t state = load(&cell->state);
    if (state == MOON_QUARANTINE_OPEN)
        return MOON_QUARANTINE_PASS;
    if (now_ms < cell->next_ms) {
        *retry_ms = state == MOON_QUARANTINE_PROBING ? MOON_QUARANTINE_PROBE_MS
                                                     : cell->next_ms - now_ms;
        return MOON_QUARANTINE_REFUSE;
    }
    cell->probe = cell->probe == UINT32_MAX ? 1 : cell->probe + 1;
    cell->next_ms = now_ms + rule->lease_ms;
    store(&cell->state, MOON_QUARANTINE_PROBING);
    *probe = cell->probe;
    return MOON_QUARANTINE_PROBE;
}

/* Counts a failure; true if it was the same as the one before. */
static bool count(struct moon_quarantine_cell *cell,
                  const struct moon_quarantine_end *end)
{
    uint32_t row = load(&cell->row);
    bool same = row > 0 && cell->way == end->way;
    cell->way = end->way;
    if (!same)
        store(&cell->row, 1);
    else if (row < UINT32_MAX)
        store(&cell->row, row + 1);
    return same;
}

static void describe(struct moon_quarantine_cell *cell,
                     const struct moon_quarantine_end *end)
{
    keep(cell->route, sizeof(cell->route), end->route);
    keep(cell->kind, sizeof(cell->kind), end->kind);
    keep(cell->place, sizeof(cell->place), end->place);
    keep(cell->message, sizeof(cell->message), end->message);
}

static void shut(struct moon_quarantine_cell *cell, uint64_t now_ms,
                 uint64_t wait_ms)
{
    cell->wait_ms = wait_ms;
    cell->next_ms = now_ms + wait_ms;
    store(&cell->state, MOON_QUARANTINE_SHUT);
}

static enum moon_quarantine_change end_open(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end)
{
    if (end->outcome == MOON_QUARANTINE_SUCCESS)
        store(&cell->row, 0);
    if (end->outcome != MOON_QUARANTINE_FAILURE)
        return MOON_QUARANTINE_UNCHANGED;
    (void)count(cell, end);
    if (load(&cell->row) < rule->failures)
        return MOON_QUARANTINE_UNCHANGED;
    describe(cell, end);
    cell->since_ms = now_ms;
    shut(cell, now_ms, rule->retry_ms);
    return MOON_QUARANTINE_SHUTS;
}

static enum moon_quarantine_change end_probe(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end)
{
    bool current = load(&cell->state) == MOON_QUARANTINE_PROBING &&
                   end->probe == cell->probe;
    if (end->outcome == MOON_QUARANTINE_SUCCESS) {
        store(&cell->row, 0);
        store(&cell->state, MOON_QUARANTINE_OPEN);
        return MOON_QUARANTINE_REOPENS;
    }
    if (!current)
        return MOON_QUARANTINE_UNCHANGED;
    if (end->outcome == MOON_QUARANTINE_NEITHER) {
        cell->next_ms = now_ms; /* the next request is the probe */
        store(&cell->state, MOON_QUARANTINE_SHUT);
        return MOON_QUARANTINE_UNCHANGED;
    }
    uint64_t wait_ms = rule->retry_ms;
    if (count(cell, end)) {
        uint64_t most_ms = rule->retry_ms * MOON_QUARANTINE_DOUBLED;
        wait_ms = cell->wait_ms < most_ms / 2 ? cell->wait_ms * 2 : most_ms;
    }
    describe(cell, end);
    shut(cell, now_ms, wait_ms);
    return MOON_QUARANTINE_STAYS_SHUT;
}

enum moon_quarantine_change moon_quarantine_tell(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end)
{
    if (load(&cell->state) == MOON_QUARANTINE_OPEN)
        return end_open(cell, rule, now_ms, end);
    return end->probe != 0 ? end_probe(cell, rule, now_ms, end)
                           : MOON_QUARANTINE_UNCHANGED;
}
