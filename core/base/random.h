/* Random bytes: from the kernel for secrets, from a fast generator seeded by
 * the kernel for what must only be unique (request ids). */
#ifndef MOON_BASE_RANDOM_H
#define MOON_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* getrandom(2); never fails (exits if the kernel has no entropy source). */
void moon_random_bytes(void *to, size_t len);

/* 128 bits of xoshiro256** (Blackman and Vigna), one generator per thread;
 * seeds itself, and again after a fork. */
void moon_random_fast(uint64_t out[2]);
/* Call in a child right after fork, so that it does not repeat its parent. */
void moon_random_reseed(void);

#endif
