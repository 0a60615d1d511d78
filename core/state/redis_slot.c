#include "state/redis_slot.h"

/* CRC16 of XMODEM: polynomial 0x1021, high bit first; four bits a step. */
static uint16_t crc16(struct moon_str text)
{
    static const uint16_t table[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint32_t crc = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t byte = (unsigned char)text.ptr[i];
        crc = (crc << 4) ^ table[((crc >> 12) ^ (byte >> 4)) & 15];
        crc = (crc << 4) ^ table[((crc >> 12) ^ byte) & 15];
        crc &= 0xffff;
    }
    return (uint16_t)crc;
}

uint16_t moon_redis_slot(struct moon_str key)
{
    struct moon_str rest, after;
    (void)moon_str_cut(key, '{', &rest);
    struct moon_str tag = moon_str_cut(rest, '}', &after);
    bool closed = tag.len < rest.len;
    return crc16(closed && tag.len > 0 ? tag : key) % MOON_REDIS_SLOTS;
}
