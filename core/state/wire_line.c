#include "state/wire_line.h"

#include <stdlib.h>

/* One that grew beyond KEEP is given back once it is empty. */
enum { FIRST = 16, KEEP = 1024 };

void moon_wire_line_deinit(struct moon_wire_line *line)
{
    free(line->places);
    line->places = NULL;
    line->cap = 0;
}

bool moon_wire_line_widen(struct moon_wire_line *line, uint32_t more)
{
    uint64_t need = line->tail - line->head + more;
    uint32_t cap = line->cap > 0 ? line->cap : FIRST;
    while (cap < need)
        cap *= 2;
    if (cap == line->cap)
        return true;
    struct moon_wire_place *places = calloc(cap, sizeof(*places));
    if (places == NULL)
        return false;
    for (uint64_t i = line->head; i != line->tail; i++)
        places[i & (cap - 1)] = *moon_wire_line_at(line, i);
    free(line->places);
    line->places = places;
    line->cap = cap;
    return true;
}

void moon_wire_line_join(struct moon_wire_line *line,
                         const struct moon_wire_place *place, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        *moon_wire_line_at(line, line->tail++) = *place;
}

struct moon_wire_place moon_wire_line_leave(struct moon_wire_line *line)
{
    struct moon_wire_place place = *moon_wire_line_at(line, line->head++);
    if (moon_wire_line_empty(line) && line->cap > KEEP)
        moon_wire_line_deinit(line);
    return place;
}

void moon_wire_line_cancel(struct moon_wire_line *line, uint64_t first,
                           uint32_t count)
{
    uint64_t end = first + count < line->tail ? first + count : line->tail;
    for (uint64_t i = first > line->head ? first : line->head; i < end; i++)
        moon_wire_line_at(line, i)->done = NULL;
}

uint64_t moon_wire_line_first_due(const struct moon_wire_line *line)
{
    uint64_t first = UINT64_MAX;
    for (uint64_t i = line->head; i != line->tail; i++) {
        const struct moon_wire_place *place = moon_wire_line_at(line, i);
        uint64_t due = moon_wire_due(place);
        if (place->done != NULL && due < first)
            first = due;
    }
    return first;
}
