/* Who may use the admin endpoints over TCP: whoever sends admin_token, compared
 * in constant time. An address that guesses wrong is not listened to for a
 * while, so that a token cannot be searched for; others are not affected. The
 * log hears of it once a minute. Master only. */
#ifndef MOON_NODE_ADMIN_GUARD_H
#define MOON_NODE_ADMIN_GUARD_H

#include "http/exchange.h"

#include <stdbool.h>

enum { MOON_ADMIN_GUESSERS = 64 };

struct moon_admin_guesser {
    uint8_t address[16]; /* IPv6: the /64 */
    uint64_t at_ms;      /* when `left` was true */
    double left;         /* wrong ones that it still has */
    bool used;
};

struct moon_admin_guard {
    struct moon_admin_guesser guessers[MOON_ADMIN_GUESSERS];
    uint64_t denied;                 /* so far */
    uint64_t unlogged, logged_at_ms; /* since then; 0: never */
};

enum moon_admin_verdict {
    MOON_ADMIN_ALLOWED,
    MOON_ADMIN_WRONG,   /* 401 */
    MOON_ADMIN_TOO_MANY /* 429: whatever it sends, not now */
};

/* An empty token fits nobody. `now_ms` never falls. */
enum moon_admin_verdict moon_admin_guard_check(struct moon_admin_guard *guard,
                                               struct moon_exchange *x,
                                               struct moon_str token,
                                               uint64_t now_ms);

#endif
