/* When a route that fails the same way again and again is shut off, and when it
 * is tried again: a state machine without a clock, a lock or I/O.
 *
 *          `failures` the same in a row         `wait` is over
 *   OPEN ------------------------------> SHUT -----------------> PROBING
 *    ^                                    ^  <-------------------   |
 *    |                                    '--- the probe failed ----|
 *    '------------------------------------------ it succeeded ------'
 *
 * The same failure doubles the wait, up to 16 times; another one begins anew
 * with the first. One probe at a time, under a lease: if nobody tells what
 * became of it (its worker was killed) the next one passes when that is over.
 *
 * What is given as a time is of one clock that never goes back. Whoever calls
 * these holds the lock of the cell (state/quarantine_table.h). A cell lies in
 * shared memory and may be left half written by a process that dies: any values
 * are a sound state, and texts are only read by moon_quarantine_text. */
#ifndef MOON_STATE_QUARANTINE_H
#define MOON_STATE_QUARANTINE_H

#include "base/str.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MOON_QUARANTINE_DOUBLED = 16,    /* times the first wait, at most */
    MOON_QUARANTINE_PROBE_MS = 1000, /* to ask again while a probe runs */
    MOON_QUARANTINE_ROUTE_TEXT = 128,
    MOON_QUARANTINE_KIND_TEXT = 16,
    MOON_QUARANTINE_PLACE_TEXT = 96,
    MOON_QUARANTINE_MESSAGE_TEXT = 160,
};

struct moon_quarantine_rule {
    uint32_t failures; /* in a row; 1 at least */
    uint64_t retry_ms; /* the first wait */
    uint64_t lease_ms; /* of a probe */
};

enum moon_quarantine_state {
    MOON_QUARANTINE_OPEN,
    MOON_QUARANTINE_SHUT,
    MOON_QUARANTINE_PROBING,
};

struct moon_quarantine_cell {
    _Atomic uint32_t state; /* may be read without the lock, as `row` */
    _Atomic uint32_t row;   /* failures in a row, of `way` */
    uint64_t way;
    uint64_t next_ms; /* SHUT: when a probe may pass; PROBING: end of lease */
    uint64_t wait_ms;
    uint64_t since_ms; /* shut since then */
    uint32_t probe;    /* number of the last one; never 0 once there was one */
    char route[MOON_QUARANTINE_ROUTE_TEXT]; /* NUL-terminated unless full */
    char kind[MOON_QUARANTINE_KIND_TEXT];
    char place[MOON_QUARANTINE_PLACE_TEXT];
    char message[MOON_QUARANTINE_MESSAGE_TEXT];
};

enum moon_quarantine_verdict {
    MOON_QUARANTINE_PASS,
    MOON_QUARANTINE_PROBE, /* passes, and its end must be told */
    MOON_QUARANTINE_REFUSE,
};

/* May a request enter? A refusal sets *retry_ms, a probe *probe, its number. */
enum moon_quarantine_verdict moon_quarantine_ask(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, uint64_t *retry_ms, uint32_t *probe);

enum moon_quarantine_outcome {
    MOON_QUARANTINE_NEITHER, /* says nothing of the route: a wanted failure, a
                                client that left */
    MOON_QUARANTINE_SUCCESS,
    MOON_QUARANTINE_FAILURE,
};

/* How a request ended. Texts are cut to what a cell holds. */
struct moon_quarantine_end {
    enum moon_quarantine_outcome outcome;
    uint32_t probe; /* its number, or 0 */
    /* of a failure */
    uint64_t way; /* the same for what is the same failure */
    struct moon_str route, kind, place, message;
};

enum moon_quarantine_change {
    MOON_QUARANTINE_UNCHANGED,
    MOON_QUARANTINE_SHUTS,
    MOON_QUARANTINE_STAYS_SHUT, /* the probe failed */
    MOON_QUARANTINE_REOPENS,
};

/* Requests that entered before it was shut off change nothing; a probe whose
 * lease is over can only reopen. */
enum moon_quarantine_change moon_quarantine_tell(
    struct moon_quarantine_cell *cell, const struct moon_quarantine_rule *rule,
    uint64_t now_ms, const struct moon_quarantine_end *end);

/* One of the texts, which ends with its array. */
struct moon_str moon_quarantine_text(const char *text, size_t size);

#endif
