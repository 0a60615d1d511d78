/* What the files of the worker share: its state. Private to node/worker*.c. */
#ifndef MOON_NODE_WORKER_INTERNAL_H
#define MOON_NODE_WORKER_INTERNAL_H

#include "node/control.h"
#include "node/generations.h"
#include "node/node_list.h"
#include "node/worker.h"
#include "state/client_counts.h"
#include "state/commons.h"

struct moon_worker {
    const struct moon_worker_options *o;
    struct moon_worker_slot *slot;
    uv_loop_t loop;
    uv_poll_t control, signals;
    uv_timer_t beat, drain_timer;
    uv_work_t pool_start;
    int signal_fd;
    uint32_t beats;
    uint64_t beat_ns;             /* when the last one was */
    uint64_t lag_us, last_lag_us; /* most in this period, and the last */
    struct moon_budget *budget;
    struct moon_watch *watch;
    struct moon_builder *builder;
    struct moon_app_handler *handler;
    struct moon_server *server; /* NULL once destroyed */
    struct moon_client_counts *client_counts;
    struct moon_commons commons;
    struct moon_metrics *node_metrics;
    struct moon_tally_table tally_table;
    struct moon_session_stores *session_stores;
    struct moon_generations *generations;
    struct moon_node_list *node_list;
    uint64_t base_counters[MOON_COUNTERS]; /* of this slot, before us */
    uint64_t load_ns;                      /* when it began with */
    bool loaded;  /* its first generation, that is up */
    bool serving; /* and it has begun to accept */
    bool control_lost;

    /* drain */
    bool draining, accepting, retired, cut, finished;
    uint32_t shared; /* bits of sockets that others go on accepting from */
    uint64_t drain_deadline_ms, last_accepted;
};

void moon_worker_send(struct moon_worker *worker,
                      const struct moon_control_msg *msg);
/* Copies counts into the slot. */
void moon_worker_publish(struct moon_worker *worker);
/* At each beat: how late it is, for one every `period_ms`. */
void moon_worker_measure_lag(struct moon_worker *worker, uint64_t period_ms);
/* Text of `status --requests`: one line each. */
void moon_worker_list_requests(const struct moon_worker *worker,
                               struct moon_buf *out);

/* Finish what is in flight, then end the loop. `shared` has a bit for each
 * listening socket that others go on accepting from: only this worker stops.
 * More calls do nothing. */
void moon_worker_drain(struct moon_worker *worker, uint32_t shared);
/* It drains, but somebody else serves on the same addresses. */
bool moon_worker_is_replaced(const struct moon_worker *worker);
/* Something ended: is everything? */
void moon_worker_check_drained(struct moon_worker *worker);

#endif
