/* One thing to write, and queues of such.
 *
 * Owned by its maker until it is submitted to the writer, then by the writer
 * until it is taken back or comes out at the end. */
#ifndef MOON_STATE_LMDB_JOB_H
#define MOON_STATE_LMDB_JOB_H

#include "state/session_store.h"

enum moon_lmdb_job_kind {
    MOON_LMDB_SAVE,
    MOON_LMDB_MOVE,
    MOON_LMDB_TOUCH,
    MOON_LMDB_REMOVE,
    MOON_LMDB_REMOVE_ALL,
};

struct moon_lmdb_job {
    enum moon_lmdb_job_kind kind;
    struct moon_session_key key, to;    /* of a move: from, to */
    struct moon_session_change *change; /* save, move; owned */
    int64_t now_ms;                     /* touch */
    struct moon_str subject; /* remove_all; in the job's own memory */
    size_t bytes;            /* that it counts for in a queue */

    enum moon_err err;
    char why[MOON_SESSION_WHY];
    uint64_t version;
    uint32_t count;

    struct moon_lmdb_job *next, *before; /* in a queue */
    uint32_t committed;                  /* of the count, so far */
    bool waiting;                        /* for the writer; under its lock */

    struct moon_session_op *op; /* the store's; NULL: nobody asks any more */
    uint64_t deadline_ms;
    struct moon_lmdb_job *pending_next, *pending_before;
};

/* `tail` is copied behind it and becomes `subject`. NULL: no memory. */
MOON_MUST_CHECK struct moon_lmdb_job *moon_lmdb_job_create(
    enum moon_lmdb_job_kind kind, struct moon_str tail);
void moon_lmdb_job_free(struct moon_lmdb_job *job); /* NULL is fine */

/* Zeroed: empty. */
struct moon_lmdb_queue {
    struct moon_lmdb_job *first, *last;
    uint32_t count;
    size_t bytes;
};

void moon_lmdb_queue_append(struct moon_lmdb_queue *queue,
                            struct moon_lmdb_job *job);
void moon_lmdb_queue_prepend(struct moon_lmdb_queue *queue,
                             struct moon_lmdb_job *job);
void moon_lmdb_queue_remove(struct moon_lmdb_queue *queue,
                            struct moon_lmdb_job *job);
/* The first one, out of the queue; NULL if it is empty. */
struct moon_lmdb_job *moon_lmdb_queue_take(struct moon_lmdb_queue *queue);

#endif
