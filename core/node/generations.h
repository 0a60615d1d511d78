/* The generations of code on one worker: the one that serves, one being made
 * ready, and older ones that still have requests, streams or tasks.
 *
 * A generation is built on the builder thread, started on the loop (on_start),
 * then waits for commit or drop. One that was replaced lingers until it is
 * unused or its time is over, then its VM is closed on the builder. Loop
 * thread only. */
#ifndef MOON_NODE_GENERATIONS_H
#define MOON_NODE_GENERATIONS_H

#include "net/app_handler.h"
#include "net/route_tally.h"
#include "node/builder.h"

struct moon_generations;

/* All borrowed for its life. */
struct moon_generations_options {
    uv_loop_t *loop;
    struct moon_builder *builder;
    struct moon_watch *watch; /* of the loop thread */
    struct moon_app_handler *handler;
    struct moon_commons *commons;
    struct moon_session_stores *session_stores;
    const struct moon_tally_table *tally_table;
    const char *app_filez, *nodez;
    uint32_t worker_id, worker_count;
    bool dev;
    _Atomic uint64_t *complained; /* see http/client.h */
    /* A vote: the generation of transaction `txn` is ready, or not and why. */
    void (*voted)(void *ctx, uint64_t txn, bool ok, struct moon_str error);
    /* Something ended; counts have changed. */
    void (*changed)(void *ctx);
    void *ctx;
};

MOON_MUST_CHECK struct moon_generations *moon_generations_create(
    const struct moon_generations_options *options);

/* Builds and starts it; `voted` follows, from inside this call only to say that
 * it cannot be. One at a
 * time: a prepared one that was neither committed nor dropped is dropped. */
void moon_generations_prepare(struct moon_generations *list,
                              struct moon_release *release, uint64_t txn);
/* The prepared one of that transaction serves from now on; false if there is
 * none. */
bool moon_generations_commit(struct moon_generations *list, uint64_t txn);
void moon_generations_drop(struct moon_generations *list, uint64_t txn);

/* Every few seconds: replaces a VM that has become full. */
void moon_generations_tend(struct moon_generations *list);

struct moon_generation *moon_generations_current(
    const struct moon_generations *list);
const struct moon_config *moon_generations_config(
    const struct moon_generations *list);
uint32_t moon_generations_live(const struct moon_generations *list);
/* What keeps the sessions of the current one; NULL if there is none. */
struct moon_session_source *moon_generations_sessions(
    const struct moon_generations *list);
/* Ended early (linger, max_generations), and full VMs replaced, so far. */
uint64_t moon_generations_ended(const struct moon_generations *list);
uint64_t moon_generations_rebuilt(const struct moon_generations *list);

/* What its VMs have counted, those that are closed included; the memory is
 * the current one's, the tasks are all detached ones. */
void moon_generations_stats(const struct moon_generations *list,
                            struct moon_vm_stats *out);

/* The end of the worker: all are retired; `changed` tells when live is 0. */
void moon_generations_retire_all(struct moon_generations *list);
/* Cancels what still runs. */
void moon_generations_cancel_all(struct moon_generations *list);
/* Only with none live and no build pending. */
void moon_generations_destroy(struct moon_generations *list);

#endif
