#include "vm/vm_api.h"

#include "base/log.h"
#include "vm/limit_gate.h"
#include "vm/vm_internal.h"

void moon_api_limit_keep(void)
{
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

void moon_limit_check(moon_slot *slot, const uint16_t *numbers,
                      const moon_bytes *keys, uint32_t count,
                      moon_limit_result *out)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str own[MOON_LIMIT_CLAIMS_MAX];
    struct moon_limit_outcome outcome;
    *out = (moon_limit_result){.allowed = true};
    if (x == NULL || count > MOON_LIMIT_CLAIMS_MAX)
        return;
    for (uint32_t i = 0; i < count; i++)
        own[i] = moon_str(keys[i].ptr, keys[i].len);
    if (moon_limit_gate(x, &moon_vm_here()->limits, numbers, own, count,
                        &outcome) != MOON_OK)
        moon_log(MOON_LOG_WARN, "no room for the fields of a limit");
    out->allowed = !outcome.refused;
    out->status = outcome.status;
    out->delay = seconds(outcome.delay_ns);
}

/* The claim of a key on a limit of this VM; false if there is no such limit. */
static bool claim_of(uint32_t number, struct moon_str key, uint32_t cost,
                     struct moon_limit_claim *claim)
{
    const struct moon_limit_set *set = &moon_vm_here()->limits;
    if (number >= set->count)
        return false;
    const struct moon_limit *limit = &set->items[number];
    *claim = (struct moon_limit_claim){
        .rate = &limit->rate,
        .key = moon_limits_key(set->table, limit->salt, key),
        .cost = cost};
    return true;
}

static void tell(const struct moon_rate_result *result, moon_limit_result *out)
{
    *out = (moon_limit_result){
        .allowed = result->allowed,
        .remaining = result->remaining,
        .delay = seconds(result->delay_ns),
        .retry = seconds(result->retry_ns),
        .reset = seconds(result->reset_ns),
    };
}

void moon_limit_take(uint32_t number, const char *key, size_t len,
                     uint32_t cost, moon_limit_result *out)
{
    struct moon_limit_claim claim;
    struct moon_rate_result result;
    struct moon_limit_set *set = &moon_vm_here()->limits;
    const struct moon_task *task = moon_task_running();
    struct moon_exchange *x = task != NULL ? task->x : NULL;
    uint32_t which;
    if (!claim_of(number, moon_str(key, len), cost, &claim))
        return;
    if (claim.rate->kind != MOON_RATE_CONCURRENCY)
        (void)moon_limits_take(set->table, &claim, 1, moon_limits_now_ns(),
                               &result, &which);
    else if (x != NULL)
        moon_limit_take_for(x, set, &set->items[number], &claim, &result);
    else
        return;
    tell(&result, out);
}

void moon_limit_peek(uint32_t number, const char *key, size_t len,
                     moon_limit_result *out)
{
    struct moon_limit_claim claim;
    struct moon_rate_result result;
    if (!claim_of(number, moon_str(key, len), 0, &claim))
        return;
    moon_limits_peek(moon_vm_here()->limits.table, &claim, moon_limits_now_ns(),
                     &result);
    tell(&result, out);
}

void moon_limit_reset(uint32_t number, const char *key, size_t len)
{
    struct moon_limit_claim claim;
    if (claim_of(number, moon_str(key, len), 0, &claim))
        moon_limits_reset(moon_vm_here()->limits.table, &claim);
}
