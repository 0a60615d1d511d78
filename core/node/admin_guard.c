#include "node/admin_guard.h"

#include "base/log.h"

#include <string.h>

/* So many wrong tokens at once, then one a second. When the table is full, who
 * guessed longest ago is forgotten. */
static const double guesses_max = 10, guesses_per_ms = 0.001;

enum { LOG_EVERY_MS = 60000 };

static bool same_address(const struct moon_admin_guesser *guesser,
                         const uint8_t address[16])
{
    return guesser->used &&
           memcmp(guesser->address, address, sizeof(guesser->address)) == 0;
}

static void address_of(const struct moon_exchange *x, uint8_t to[16])
{
    struct moon_str network = moon_peer_network(&x->peer);
    memset(to, 0, 16);
    if (network.len > 0)
        memcpy(to, network.ptr, network.len);
}

static struct moon_admin_guesser *find(struct moon_admin_guard *guard,
                                       const uint8_t address[16])
{
    for (int i = 0; i < MOON_ADMIN_GUESSERS; i++)
        if (same_address(&guard->guessers[i], address))
            return &guard->guessers[i];
    return NULL;
}

static struct moon_admin_guesser *add(struct moon_admin_guard *guard,
                                      const uint8_t address[16])
{
    struct moon_admin_guesser *oldest = &guard->guessers[0];
    for (int i = 0; i < MOON_ADMIN_GUESSERS && oldest->used; i++) {
        struct moon_admin_guesser *one = &guard->guessers[i];
        if (!one->used || one->at_ms < oldest->at_ms)
            oldest = one;
    }
    *oldest = (struct moon_admin_guesser){.used = true, .left = guesses_max};
    memcpy(oldest->address, address, sizeof(oldest->address));
    return oldest;
}

/* What came back to it since the last time. */
static void refill(struct moon_admin_guesser *guesser, uint64_t now_ms)
{
    guesser->left += (double)(now_ms - guesser->at_ms) * guesses_per_ms;
    if (guesser->left > guesses_max)
        guesser->left = guesses_max;
    guesser->at_ms = now_ms;
}

static void note(struct moon_admin_guard *guard, struct moon_exchange *x,
                 uint64_t now_ms)
{
    guard->denied++;
    guard->unlogged++;
    if (guard->logged_at_ms != 0 && now_ms - guard->logged_at_ms < LOG_EVERY_MS)
        return;
    struct moon_str ip = moon_exchange_ip(x);
    moon_log(MOON_LOG_WARN,
             "admin: %llu requests without the right token, the last one from "
             "%.*s (said once a minute)",
             (unsigned long long)guard->unlogged, MOON_STR_ARG(ip));
    guard->unlogged = 0;
    guard->logged_at_ms = now_ms;
}

/* Equal length and bytes, in a time that does not tell how far. */
static bool same_secret(struct moon_str given, struct moon_str wanted)
{
    volatile unsigned char differ = given.len != wanted.len;
    for (size_t i = 0; i < wanted.len; i++)
        differ = differ | (unsigned char)(wanted.ptr[i] ^
                                          (i < given.len ? given.ptr[i] : 0));
    return differ == 0;
}

static bool has_token(const struct moon_exchange *x, struct moon_str token)
{
    struct moon_str given;
    if (token.len == 0 ||
        !moon_request_header(&x->req, MOON_STR("authorization"), 0, &given) ||
        given.len < 7 ||
        !moon_str_eq_nocase(moon_str(given.ptr, 7), MOON_STR("bearer ")))
        return false;
    return same_secret(moon_str_trim(moon_str(given.ptr + 7, given.len - 7)),
                       token);
}

enum moon_admin_verdict moon_admin_guard_check(struct moon_admin_guard *guard,
                                               struct moon_exchange *x,
                                               struct moon_str token,
                                               uint64_t now_ms)
{
    uint8_t address[16];
    address_of(x, address);
    struct moon_admin_guesser *guesser = find(guard, address);
    if (guesser != NULL) {
        refill(guesser, now_ms);
        if (guesser->left < 1) {
            note(guard, x, now_ms);
            return MOON_ADMIN_TOO_MANY;
        }
    }
    if (has_token(x, token))
        return MOON_ADMIN_ALLOWED;
    if (guesser == NULL) {
        guesser = add(guard, address);
        guesser->at_ms = now_ms;
    }
    guesser->left -= 1;
    note(guard, x, now_ms);
    return MOON_ADMIN_WRONG;
}
