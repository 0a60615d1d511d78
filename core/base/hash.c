#include "base/hash.h"

#include <endian.h>
#include <stdio.h>

void moon_hash_init(struct moon_hash *hash)
{
    *hash = (struct moon_hash){{0x243f6a8885a308d3u, 0x13198a2e03707344u}, 0};
}

/* Two lanes of multiply and rotate over eight bytes at a time. */
static void mix(uint64_t lanes[2], uint64_t word)
{
    lanes[0] = (lanes[0] ^ word) * 0x9e3779b97f4a7c15u;
    lanes[0] = (lanes[0] << 29) | (lanes[0] >> 35);
    lanes[1] = (lanes[1] + word) * 0xc2b2ae3d27d4eb4fu;
    lanes[1] ^= (lanes[1] >> 31) + lanes[0];
}

void moon_hash_add(struct moon_hash *hash, struct moon_str s)
{
    hash->count++;
    mix(hash->lanes, s.len);
    while (s.len > 0) {
        uint64_t word = 0;
        size_t len = s.len < sizeof(word) ? s.len : sizeof(word);
        memcpy(&word, s.ptr, len);
        mix(hash->lanes, le64toh(word));
        s.ptr += len;
        s.len -= len;
    }
}

void moon_hash_hex(struct moon_hash *hash, char hex[33])
{
    for (int i = 0; i < 4; i++)
        mix(hash->lanes, hash->count);
    (void)snprintf(hex, 33, "%016llx%016llx",
                   (unsigned long long)hash->lanes[0],
                   (unsigned long long)hash->lanes[1]);
}
