/* Load on the table of rate limits, to be counted by callgrind:
 *
 *   limits_load KEYS TAKES     fills the table with KEYS keys, then asks TAKES
 *                              times for one of them, all over the table
 *
 * What a take costs is counted with --toggle-collect=take_some. */
#include "base/compiler.h"
#include "state/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_NS 1000000000ull

static struct moon_limits *limits;
static struct moon_rate rate;
static uint64_t salt, now_ns;

static bool take(uint32_t number)
{
    struct moon_rate_result result = {0};
    uint32_t which;
    struct moon_str key = moon_str((const char *)&number, sizeof(number));
    struct moon_limit_claim claim = {
        .rate = &rate, .key = moon_limits_key(limits, salt, key), .cost = 1};
    return moon_limits_take(limits, &claim, 1, now_ns, &result, &which);
}

/* Not inlined: it is what is counted. */
MOON_APART void take_some(uint32_t keys, uint32_t takes);

MOON_APART void take_some(uint32_t keys, uint32_t takes)
{
    uint32_t at = 1;
    for (uint32_t i = 0; i < takes; i++) {
        at = at * 1664525u + 1013904223u;
        (void)take((uint32_t)((uint64_t)at * keys >> 32));
    }
}

static uint32_t number_of(const char *textz)
{
    uint64_t value;
    if (!moon_str_to_u64(moon_strz(textz), &value) || value == 0 ||
        value > UINT32_MAX) {
        fprintf(stderr, "limits_load: KEYS and TAKES are numbers, not %s\n",
                textz);
        exit(2);
    }
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    struct moon_region *region;
    if (argc != 3) {
        fprintf(stderr, "usage: limits_load KEYS TAKES\n");
        return 2;
    }
    uint32_t keys = number_of(argv[1]), takes = number_of(argv[2]);
    if (moon_region_create(&region, NULL) != MOON_OK)
        return 1;
    /* Twice the room, as somebody would give it who knows how many there are:
     * what is lost then is lost by chance, and told. */
    limits = moon_limits_open(region, keys * 2, 1, 0);
    if (limits == NULL ||
        !moon_rate_make(MOON_RATE_TOKEN_BUCKET, 1, 3600 * SECOND_NS, 1, &rate))
        return 1;
    salt = moon_limits_salt(limits, MOON_STR("load"));
    now_ns = moon_limits_now_ns();
    for (uint32_t i = 0; i < keys; i++)
        (void)take(i);
    take_some(keys, takes);
    printf("%" PRIu64 " lost\n", moon_limits_lost(limits));
    moon_limits_close(limits);
    moon_region_close(region);
    return 0;
}
