/* Whether a session store works, since when not, and why not.
 *
 * Written by the writer thread, read by the loop. A change is logged once. */
#ifndef MOON_STATE_LMDB_HEALTH_H
#define MOON_STATE_LMDB_HEALTH_H

#include "state/session_store.h"

#include <pthread.h>
#include <stdatomic.h>

enum moon_lmdb_state {
    MOON_LMDB_OPENING, /* operations wait */
    MOON_LMDB_UP,
    MOON_LMDB_READ_ONLY, /* writing failed; tried again now and then */
    MOON_LMDB_CLOSED,    /* it cannot be opened; tried again now and then */
};

struct moon_lmdb_health {
    const char *dirz; /* borrowed for its life */
    _Atomic int state;
    _Atomic uint64_t retry_ms; /* read only: refuse until then */
    _Atomic uint64_t busy_ms;  /* a transaction runs since then; 0: none */

    pthread_mutex_t lock; /* guards what follows */
    enum moon_err err;
    char why[MOON_SESSION_WHY];
    double since; /* wall clock */
    uint64_t delay_ms;
};

void moon_lmdb_health_init(struct moon_lmdb_health *health, const char *dirz);
void moon_lmdb_health_deinit(struct moon_lmdb_health *health);

/* ---- by the writer ---- */

/* It is being opened; stays closed if it was. */
void moon_lmdb_health_opening(struct moon_lmdb_health *health);
void moon_lmdb_health_opened(struct moon_lmdb_health *health);
void moon_lmdb_health_closed(struct moon_lmdb_health *health, const char *whyz);
/* Writing failed, or works. */
void moon_lmdb_health_broke(struct moon_lmdb_health *health, enum moon_err err,
                            const char *whyz);
void moon_lmdb_health_wrote(struct moon_lmdb_health *health);
void moon_lmdb_health_busy(struct moon_lmdb_health *health, bool busy);

/* ---- by both ---- */

static inline bool moon_lmdb_health_is(struct moon_lmdb_health *health,
                                       enum moon_lmdb_state state)
{
    return atomic_load_explicit(&health->state, memory_order_acquire) ==
           (int)state;
}
void moon_lmdb_health_why(struct moon_lmdb_health *health,
                          char why[MOON_SESSION_WHY]);
/* Shall writing not even be tried? MOON_OK: it shall. */
enum moon_err moon_lmdb_health_refuses(struct moon_lmdb_health *health,
                                       char why[MOON_SESSION_WHY]);
/* A sentence, if something does not work. */
bool moon_lmdb_health_tell(struct moon_lmdb_health *health, char *to,
                           size_t size);

#endif
