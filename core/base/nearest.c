#include "base/nearest.h"

#define LONGEST 64

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: three rows of the usual table. */
size_t moon_edit_distance(struct moon_str a, struct moon_str b)
{
    size_t rows[3][LONGEST + 1];
    if (a.len > LONGEST || b.len > LONGEST)
        return SIZE_MAX;
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b.len; j++)
        above[j] = before[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t cost = a.ptr[i - 1] != b.ptr[j - 1];
            row[j] =
                least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + cost);
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] &&
                a.ptr[i - 2] == b.ptr[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[b.len];
}

void moon_nearest_init(struct moon_nearest *nearest, struct moon_str wanted)
{
    *nearest = (struct moon_nearest){wanted, MOON_STR_NONE, SIZE_MAX};
}

void moon_nearest_offer(struct moon_nearest *nearest, struct moon_str name)
{
    size_t distance = moon_edit_distance(nearest->wanted, name);
    /* Somebody who typed "timeout" under the wrong table, or half a name. */
    if (distance != SIZE_MAX && nearest->wanted.len >= 3 &&
        name.len > nearest->wanted.len) {
        size_t tail = name.len - nearest->wanted.len;
        struct moon_str end = moon_str(name.ptr + tail, nearest->wanted.len);
        if (moon_str_starts(name, nearest->wanted) ||
            (moon_str_eq(end, nearest->wanted) && name.ptr[tail - 1] == '.'))
            distance = least(distance, 2);
    }
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->best = name;
    }
}

bool moon_nearest_found(const struct moon_nearest *nearest)
{
    size_t longer = nearest->wanted.len > nearest->best.len
                        ? nearest->wanted.len
                        : nearest->best.len;
    /* One letter in three may be wrong, in a short word one. */
    return nearest->distance != SIZE_MAX &&
           (nearest->distance <= 1 || nearest->distance <= longer / 3);
}
