#include "base/random.h"

#include "base/compiler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void moon_random_bytes(void *to, size_t len)
{
    char *at = to;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            perror("moonshine: getrandom");
            exit(1);
        }
        at += got;
        len -= (size_t)got;
    }
}

static _Thread_local uint64_t state[4];

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void moon_random_reseed(void)
{
    moon_random_bytes(state, sizeof(state));
    state[0] |= 1; /* all zero is the one state that never leaves itself */
}

static uint64_t next(void)
{
    uint64_t result = rotl(state[1] * 5, 7) * 9;
    uint64_t t = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotl(state[3], 45);
    return result;
}

void moon_random_fast(uint64_t out[2])
{
    if (MOON_UNLIKELY(state[0] == 0)) /* by chance, too: that does no harm */
        moon_random_reseed();
    out[0] = next();
    out[1] = next();
}
