/* The thread that writes sessions: one per process, for LMDB has one writer at
 * a time on the whole machine, and waiting for it must not hold up the loop.
 *
 * Jobs queue up and are committed together, as many as wait. The thread also
 * opens the environment, keeps it in shape and sees to it that it is flushed.
 * All calls are the loop thread's. */
#ifndef MOON_STATE_LMDB_WRITER_H
#define MOON_STATE_LMDB_WRITER_H

#include "state/lmdb_handle.h"
#include "state/lmdb_job.h"

struct moon_lmdb_writer_options {
    const char *dirz; /* borrowed until it is destroyed */
    uint64_t size_bytes;
    size_t max_record_bytes;
    uint32_t max_waiting;     /* jobs */
    size_t max_waiting_bytes; /* of them */
    bool temporary;           /* never flushed */
    /* Called on any of its threads: jobs are done, or it has stopped. */
    void (*wake)(void *ctx);
    void *ctx;
};

struct moon_lmdb_writer;

MOON_MUST_CHECK enum moon_err moon_lmdb_writer_create(
    const struct moon_lmdb_writer_options *options,
    struct moon_lmdb_writer **out);
/* Waits until it was tried to open the environment, at most so long. */
void moon_lmdb_writer_await(struct moon_lmdb_writer *writer, uint64_t ms);
/* Commits what waits, flushes, closes; then wakes. */
void moon_lmdb_writer_stop(struct moon_lmdb_writer *writer);
bool moon_lmdb_writer_has_stopped(struct moon_lmdb_writer *writer);
/* After it has stopped. Jobs that were not taken are freed. */
void moon_lmdb_writer_destroy(struct moon_lmdb_writer *writer);

/* MOON_OK: transferred. MOON_EFULL: as many wait as may. Anything else: it
 * cannot be done now. Then `why` says why not. */
MOON_MUST_CHECK enum moon_err moon_lmdb_writer_submit(
    struct moon_lmdb_writer *writer, struct moon_lmdb_job *job,
    char why[MOON_SESSION_WHY]);
/* It is the caller's again, and was not done. False: too late for that. */
bool moon_lmdb_writer_retract(struct moon_lmdb_writer *writer,
                              struct moon_lmdb_job *job);
/* One that is done, transferred; NULL: none. */
struct moon_lmdb_job *moon_lmdb_writer_take(struct moon_lmdb_writer *writer);

/* For reading. */
struct moon_lmdb_handle *moon_lmdb_writer_handle(
    struct moon_lmdb_writer *writer);
/* A read in the environment of that epoch ended with that result: the writer
 * sees what can be done. */
void moon_lmdb_writer_complain(struct moon_lmdb_writer *writer, uint64_t epoch,
                               int rc);
/* Records that could not be read, which count as gone. */
void moon_lmdb_writer_unreadable(struct moon_lmdb_writer *writer,
                                 uint32_t count);

struct moon_lmdb_counters {
    uint64_t loads;  /* the store counts them */
    uint64_t writes; /* saves, moves, touches, removals that were committed */
    uint64_t commits, largest_group;
    uint64_t swept, evicted; /* sessions */
    uint64_t unreadable;     /* records */
    uint64_t flushes;
};
void moon_lmdb_writer_count(struct moon_lmdb_writer *writer,
                            struct moon_lmdb_counters *counters);

#endif
