/* A quick fingerprint of 128 bits: tells apart what differs by accident. No
 * secret, and no defence against someone who wants two texts to look alike. */
#ifndef MOON_BASE_HASH_H
#define MOON_BASE_HASH_H

#include "base/str.h"

struct moon_hash {
    uint64_t lanes[2], count;
};

void moon_hash_init(struct moon_hash *hash);
/* Where one text ends and the next begins makes a difference, too. */
void moon_hash_add(struct moon_hash *hash, struct moon_str s);
/* 32 hex digits and a NUL; nothing may be added afterwards. */
void moon_hash_hex(struct moon_hash *hash, char hex[33]);

#endif
