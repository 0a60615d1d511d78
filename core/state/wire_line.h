/* The line of a wire: who waits for which of the replies that are still to
 * come. A ring that grows; each place has a number, and numbers never repeat.
 *
 * Embedded in its wire and zero-initialised. Private to state/wire. */
#ifndef MOON_STATE_WIRE_LINE_H
#define MOON_STATE_WIRE_LINE_H

#include "state/wire.h"

/* One reply that is still to come. */
struct moon_wire_place {
    moon_wire_done *done; /* NULL: nobody waits for it any more */
    void *ctx;
    uint64_t begin; /* where its request begins in the stream of output */
    uint64_t start_ms;
    uint64_t timeout_ms;
};

struct moon_wire_line {
    struct moon_wire_place *places;
    uint64_t head, tail; /* numbers of the oldest, and of the next to join */
    uint32_t cap;        /* power of two */
};

/* Sums of times do not wrap. */
static inline uint64_t moon_wire_later(uint64_t ms, uint64_t by)
{
    return by < UINT64_MAX - ms ? ms + by : UINT64_MAX;
}

static inline uint64_t moon_wire_due(const struct moon_wire_place *place)
{
    return moon_wire_later(place->start_ms, place->timeout_ms);
}

static inline bool moon_wire_line_empty(const struct moon_wire_line *line)
{
    return line->head == line->tail;
}

/* Borrowed until somebody joins or leaves. */
static inline struct moon_wire_place *moon_wire_line_at(
    const struct moon_wire_line *line, uint64_t number)
{
    return &line->places[number & (line->cap - 1)];
}

void moon_wire_line_deinit(struct moon_wire_line *line);
/* Room for `more` to join; false: no memory. */
MOON_MUST_CHECK bool moon_wire_line_widen(struct moon_wire_line *line,
                                          uint32_t more);
/* There must be room. */
void moon_wire_line_join(struct moon_wire_line *line,
                         const struct moon_wire_place *place, uint32_t count);
/* The oldest, which there must be. */
struct moon_wire_place moon_wire_line_leave(struct moon_wire_line *line);
void moon_wire_line_cancel(struct moon_wire_line *line, uint64_t first,
                           uint32_t count);
/* When the next place is due for which somebody waits; UINT64_MAX: never. */
uint64_t moon_wire_line_first_due(const struct moon_wire_line *line);

#endif
