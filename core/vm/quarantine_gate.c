#include "vm/quarantine_gate.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/tally.h"
#include "base/units.h"
#include "state/quarantine_table.h"

#include <stdio.h>
#include <stdlib.h>

/* A probe of a route without a timeout is given up after this. */
enum { LEASE_MS = 60000, LEASE_MORE_MS = 1000 };

struct item {
    struct moon_quarantine_slot *slot; /* NULL: not watched */
    struct moon_quarantine_rule rule;
};

struct moon_quarantine_gate {
    struct moon_quarantine_table *table;
    uint64_t generation;
    struct item items[]; /* by route */
};

/* What is known of one request; in its arena. */
struct moon_quarantine_pass {
    bool refused;
    struct moon_quarantine_end end;
};

/* ---- the generation's ---- */

bool moon_quarantine_rule_of(const struct moon_route *route,
                             const struct moon_config *config,
                             struct moon_quarantine_rule *rule)
{
    uint32_t failures = config->quarantine_failures; /* 0: none */
    if (route->chain == MOON_NO_CHAIN ||
        route->quarantine == MOON_QUARANTINE_OFF)
        return false;
    if (route->quarantine == MOON_QUARANTINE_ON) {
        if (failures == 0)
            failures = MOON_QUARANTINE_DEFAULT_FAILURES;
        if (route->quarantine_failures != 0)
            failures = route->quarantine_failures;
    }
    uint64_t timeout_ms =
        route->timeout_ms != 0 ? route->timeout_ms : config->timeout_ms;
    *rule = (struct moon_quarantine_rule){
        .failures = failures,
        .retry_ms = route->quarantine_retry_ms != 0
                        ? route->quarantine_retry_ms
                        : config->quarantine_retry_ms,
        .lease_ms = timeout_ms != MOON_CONFIG_NONE ? timeout_ms + LEASE_MORE_MS
                                                   : LEASE_MS};
    return failures != 0;
}

static uint64_t hash_of(struct moon_str first, struct moon_str second)
{
    struct moon_hash hash;
    moon_hash_init(&hash);
    moon_hash_add(&hash, first);
    moon_hash_add(&hash, second);
    moon_hash_add(&hash, MOON_STR("")); /* stirs once more */
    return hash.lanes[0] ^ hash.lanes[1];
}

/* How many routes are watched. */
static uint32_t claim_all(struct moon_quarantine_gate *gate,
                          const struct moon_app *app,
                          const struct moon_config *config)
{
    uint32_t watched = 0, left_out = 0;
    for (uint32_t i = 0; i < app->route_count; i++) {
        const struct moon_route *route = &app->routes[i];
        struct item *item = &gate->items[i];
        if (!moon_quarantine_rule_of(route, config, &item->rule))
            continue;
        item->slot = moon_quarantine_claim(
            gate->table, hash_of(route->methods, route->pattern),
            gate->generation);
        watched += item->slot != NULL;
        left_out += item->slot == NULL;
    }
    if (left_out > 0)
        moon_log(MOON_LOG_WARN,
                 "quarantine: no room to watch %u of %u routes: they are never "
                 "shut off",
                 left_out, watched + left_out);
    return watched;
}

static bool watches(const struct moon_app *app,
                    const struct moon_config *config)
{
    struct moon_quarantine_rule rule;
    for (uint32_t i = 0; i < app->route_count; i++)
        if (moon_quarantine_rule_of(&app->routes[i], config, &rule))
            return true;
    return false;
}

struct moon_quarantine_gate *moon_quarantine_gate_create(
    struct moon_region *region, const struct moon_app *app,
    const struct moon_config *config, uint64_t generation)
{
    if (generation == 0 || !watches(app, config))
        return NULL;
    struct moon_quarantine_gate *gate =
        calloc(1, sizeof(*gate) + app->route_count * sizeof(gate->items[0]));
    if (gate != NULL) {
        gate->generation = generation;
        gate->table = moon_quarantine_open(region);
    }
    if (gate == NULL || gate->table == NULL) {
        moon_log(MOON_LOG_ERROR, "quarantine: no memory: no route is ever shut "
                                 "off");
        free(gate);
        return NULL;
    }
    (void)claim_all(gate, app, config);
    return gate;
}

void moon_quarantine_gate_destroy(struct moon_quarantine_gate *gate)
{
    free(gate);
}

/* ---- a request ---- */

static const struct item *item_of(const struct moon_quarantine_gate *gate,
                                  const struct moon_exchange *x)
{
    return &gate->items[x->match.route];
}

static void set_retry(struct moon_exchange *x, uint64_t retry_ms)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%llu",
                       (unsigned long long)((retry_ms + 999) / 1000));
    if (moon_response_set(&x->res, &x->arena, MOON_STR("Retry-After"),
                          moon_str(text, (size_t)len)) != MOON_OK)
        moon_log(MOON_LOG_WARN, "quarantine: no room for Retry-After");
}

bool moon_quarantine_gate_refuses(const struct moon_quarantine_gate *gate,
                                  struct moon_exchange *x)
{
    const struct item *item = item_of(gate, x);
    uint64_t retry_ms = 0;
    if (item->slot == NULL)
        return false;
    struct moon_quarantine_pass *pass =
        moon_arena_alloc(&x->arena, sizeof(*pass));
    if (pass == NULL)
        return false;
    *pass = (struct moon_quarantine_pass){0};
    x->quarantine = pass;
    if (MOON_LIKELY(moon_quarantine_is_open(item->slot)))
        return false;
    switch (moon_quarantine_enter(gate->table, item->slot, gate->generation,
                                  &item->rule, moon_clock_ms(), &retry_ms,
                                  &pass->end.probe)) {
    case MOON_QUARANTINE_PASS:
        break;
    case MOON_QUARANTINE_PROBE:
        moon_log(MOON_LOG_INFO,
                 "quarantine: %.*s %.*s is tried by request %.*s",
                 MOON_STR_ARG(x->route->methods),
                 MOON_STR_ARG(x->route->pattern), MOON_STR_ARG(x->request_id));
        break;
    case MOON_QUARANTINE_REFUSE:
        pass->refused = true;
        set_retry(x, retry_ms);
        moon_tally_add(MOON_TALLY_QUARANTINE_REFUSALS, 1);
        break;
    }
    return pass->refused;
}

bool moon_quarantine_gate_refused(const struct moon_exchange *x)
{
    return x->quarantine != NULL && x->quarantine->refused;
}

static struct moon_str copy(struct moon_exchange *x, struct moon_str text,
                            size_t max)
{
    struct moon_str rest;
    text = moon_str_cut(text, '\n', &rest);
    if (text.len > max)
        text.len = max;
    text = moon_arena_copy(&x->arena, text);
    return text.ptr != NULL ? text : MOON_STR_NONE;
}

void moon_quarantine_gate_failed(struct moon_exchange *x, struct moon_str kind,
                                 struct moon_str place, struct moon_str message)
{
    struct moon_quarantine_pass *pass = x->quarantine;
    /* A hook that shapes an answer of the core is not the route. */
    if (pass == NULL || pass->refused || x->auto_status != 0)
        return;
    struct moon_quarantine_end *end = &pass->end;
    bool placed = moon_str_eq(kind, MOON_STR("error"));
    end->outcome = MOON_QUARANTINE_FAILURE;
    end->way = hash_of(kind, placed ? place : MOON_STR_NONE);
    end->kind = copy(x, kind, MOON_QUARANTINE_KIND_TEXT);
    end->place = copy(x, place, MOON_QUARANTINE_PLACE_TEXT);
    end->message = copy(x, message, MOON_QUARANTINE_MESSAGE_TEXT);
}

/* ---- its end ---- */

#define TEXT_ARG(array) \
    MOON_STR_ARG(moon_quarantine_text((array), sizeof(array)))

static void log_change(enum moon_quarantine_change change,
                       const struct moon_quarantine_cell *cell, uint64_t now_ms)
{
    char wait[32], was[32];
    moon_duration_format(cell->wait_ms, wait, sizeof(wait));
    moon_duration_format((now_ms - cell->since_ms) / 1000 * 1000, was,
                         sizeof(was));
    const char *sep = cell->place[0] != '\0' ? " at " : "";
    switch (change) {
    case MOON_QUARANTINE_UNCHANGED:
        break;
    case MOON_QUARANTINE_SHUTS:
        moon_log(MOON_LOG_WARN,
                 "quarantine: %.*s is shut off: it failed %u times in a row "
                 "(%.*s%s%.*s: %.*s); tried again in %s",
                 TEXT_ARG(cell->route), cell->row, TEXT_ARG(cell->kind), sep,
                 TEXT_ARG(cell->place), TEXT_ARG(cell->message), wait);
        break;
    case MOON_QUARANTINE_STAYS_SHUT:
        moon_log(MOON_LOG_WARN,
                 "quarantine: %.*s stays shut off: it failed when it was tried "
                 "(%.*s%s%.*s: %.*s); tried again in %s",
                 TEXT_ARG(cell->route), TEXT_ARG(cell->kind), sep,
                 TEXT_ARG(cell->place), TEXT_ARG(cell->message), wait);
        break;
    case MOON_QUARANTINE_REOPENS:
        moon_log(MOON_LOG_WARN,
                 "quarantine: %.*s answers again, after %s of being shut off",
                 TEXT_ARG(cell->route), was);
        break;
    }
}

static enum moon_quarantine_outcome outcome_of(const struct moon_exchange *x)
{
    if (x->quarantine->end.outcome == MOON_QUARANTINE_FAILURE)
        return MOON_QUARANTINE_FAILURE;
    bool answered = x->status_sent != 0 && x->status_sent < 400;
    return answered ? MOON_QUARANTINE_SUCCESS : MOON_QUARANTINE_NEITHER;
}

void moon_quarantine_gate_leave(const struct moon_quarantine_gate *gate,
                                struct moon_exchange *x)
{
    const struct item *item = item_of(gate, x);
    struct moon_quarantine_pass *pass = x->quarantine;
    struct moon_quarantine_end *end = &pass->end;
    if (pass->refused)
        return;
    end->outcome = outcome_of(x);
    if (MOON_LIKELY(end->outcome != MOON_QUARANTINE_FAILURE &&
                    end->probe == 0 && moon_quarantine_is_quiet(item->slot)))
        return;
    char label[MOON_QUARANTINE_ROUTE_TEXT + 1];
    (void)snprintf(label, sizeof(label), "%.*s %.*s",
                   MOON_STR_ARG(x->route->methods),
                   MOON_STR_ARG(x->route->pattern));
    end->route = moon_strz(label);
    struct moon_quarantine_cell news;
    uint64_t now_ms = moon_clock_ms();
    enum moon_quarantine_change change =
        moon_quarantine_leave(gate->table, item->slot, gate->generation,
                              &item->rule, now_ms, end, &news);
    if (change != MOON_QUARANTINE_UNCHANGED)
        log_change(change, &news, now_ms);
}
