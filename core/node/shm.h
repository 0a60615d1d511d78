/* Memory that the master shares with its workers: who is alive, what each one
 * does and has counted.
 *
 * A memfd mapped before the first fork, headed by magic and layout version.
 * Each worker writes its own slot, the master writes `pid`, `stale` and its
 * side's words; everybody reads, relaxed: the values inform, they order
 * nothing. There are two sides and more than twice as many slots as workers,
 * so that the master and workers of a next binary can join. Counters of a slot
 * go on when its worker is replaced; those of the node are of both sides. */
#ifndef MOON_NODE_SHM_H
#define MOON_NODE_SHM_H

#include "base/errcode.h"
#include "net/route_tally.h"
#include "state/cluster_limits.h"
#include "vm/budget.h"

#include <stdbool.h>
#include <sys/types.h>

enum moon_worker_state {
    MOON_WORKER_NONE,     /* no process */
    MOON_WORKER_STARTING, /* builds its first generation */
    MOON_WORKER_SERVING,
    MOON_WORKER_DRAINING,
};

/* The node as its health endpoints tell it. */
enum moon_node_state {
    MOON_NODE_STARTING,
    MOON_NODE_READY,
    MOON_NODE_DRAINING
};

/* What a worker counts, one list for copying, status and metrics. */
#define MOON_COUNTER_MAP(X)                                            \
    X(accepted, "connections accepted")                                \
    X(requests, "requests received")                                   \
    X(bad_requests, "requests that could not be parsed")               \
    X(timeouts, "requests that ran out of time")                       \
    X(resets, "connections reset by the client")                       \
    X(accept_pauses, "pauses in accepting for lack of descriptors")    \
    X(shed, "connections closed to make room")                         \
    X(connection_limits, "times that max_connections was reached")     \
    X(connection_refusals, "connections refused at max_connections")   \
    X(client_connection_refusals,                                      \
      "connections refused at max_connections_per_ip")                 \
    X(received_bytes, "bytes read from clients")                       \
    X(sent_bytes, "bytes written to clients")                          \
    X(status_1xx, "responses 1xx")                                     \
    X(status_2xx, "responses 2xx")                                     \
    X(status_3xx, "responses 3xx")                                     \
    X(status_4xx, "responses 4xx")                                     \
    X(status_5xx, "responses 5xx")                                     \
    X(lua_errors, "handlers and tasks that failed, stopped ones too")  \
    X(cpu_stops, "handlers stopped at their CPU limit")                \
    X(memory_stops, "handlers stopped at their memory limit")          \
    X(vm_rebuilds, "virtual machines replaced because they were full") \
    X(linger_ends, "old generations ended before their requests were") \
    X(slow_slices, "slices of Lua that took slow_slice or longer")     \
    X(session_store_errors, "operations that a session store failed")  \
    X(quarantine_refusals, "requests refused by routes in quarantine") \
    X(redis_connects, "attempts to connect to a Redis server")         \
    X(overload_refusals, "requests refused by workers overloaded")     \
    X(log_lines_dropped, "log lines dropped, as nobody took them")

/* Why a worker had to be replaced. */
#define MOON_DEATH_MAP(X)                                \
    X(exit)    /* by itself, though nobody told it to */ \
    X(signal)  /* a crash, or somebody's kill */         \
    X(hang)    /* killed by the watch */                 \
    X(startup) /* before it was ready */

enum moon_death {
#define X(name) MOON_DEATH_##name,
    MOON_DEATH_MAP(X)
#undef X
        MOON_DEATHS
};

enum moon_counter {
#define X(name, help) MOON_COUNTER_##name,
    MOON_COUNTER_MAP(X)
#undef X
        MOON_COUNTERS
};

struct moon_worker_slot {
    _Alignas(64) struct moon_slice slice; /* what runs on its loop thread */
    _Atomic uint32_t connections;         /* the server writes it */
    _Atomic uint32_t stale; /* the master: does not move, do not count on it */
    _Atomic uint32_t heartbeat; /* grows while its loop turns */
    _Atomic int32_t pid, tid;   /* tid: of the loop thread */
    _Atomic uint32_t state;     /* enum moon_worker_state */
    _Atomic uint32_t exchanges; /* requests in flight */
    _Atomic uint32_t generations_live;
    _Atomic uint32_t tasks;
    /* What would grow if something leaked: coroutines and references of its
     * VMs, handles and timers of its loop. */
    _Atomic uint32_t coroutines, lua_refs, handles, timers;
    _Atomic uint64_t generation; /* that new requests enter */
    _Atomic uint64_t started_ms; /* moon_clock_ms */
    _Atomic uint64_t running_at; /* see node/witness.h; 0: not known */
    _Atomic uint64_t vm_used_bytes, vm_limit_bytes;
    _Atomic uint64_t counters[MOON_COUNTERS];
    _Atomic uint64_t took[MOON_TOOK_BUCKETS]; /* net/route_tally.h */
    _Atomic uint64_t lag_us;     /* of its loop, most in the last seconds */
    _Atomic uint32_t overloaded; /* see net/overload.h */
};

/* What one master tells its workers. */
struct moon_shm_side {
    _Atomic uint32_t node_state;     /* enum moon_node_state */
    _Atomic uint32_t first, workers; /* the slots that are its workers' */
    /* Bits of listening sockets that somebody goes on accepting from if this
     * master dies. */
    _Atomic uint32_t shared;
    _Atomic uint64_t generation; /* committed */
};

enum { MOON_SHM_SIDES = 2, MOON_SHM_SLOTS_MIN = 32 };

struct moon_shm {
    uint64_t magic;
    uint32_t version, slot_count;
    uint64_t size;
    struct moon_shm_side sides[MOON_SHM_SIDES];
    _Atomic uint32_t stored;     /* a worker has seen the session store up */
    _Atomic uint64_t complained; /* of an unknown proxy, see http/client.h */
    struct moon_cluster_news cluster;
    _Atomic uint64_t reloads, reloads_failed, rollbacks, restarts, kills,
        upgrades, upgrades_failed;
    _Atomic uint64_t deaths[MOON_DEATHS]; /* they sum up to `restarts` */
    struct moon_worker_slot slots[];
};

/* So many slots have room for these workers and for those of a next binary,
 * also if they are some more. */
static inline uint32_t moon_shm_slots(uint32_t workers)
{
    return workers > MOON_SHM_SLOTS_MIN / 2 ? workers * 2 : MOON_SHM_SLOTS_MIN;
}

/* Where `workers` slots are free beside those that others use; false: nowhere.
 */
MOON_MUST_CHECK bool moon_shm_find_room(uint32_t slots, uint32_t used_first,
                                        uint32_t used, uint32_t workers,
                                        uint32_t *first);

/* Maps a new one; the descriptor stays open in *fd (for an upgrade). */
MOON_MUST_CHECK enum moon_err moon_shm_create(uint32_t slots,
                                              struct moon_shm **out, int *fd);
/* Maps one that another process made. MOON_EPROTO: of another layout. */
MOON_MUST_CHECK enum moon_err moon_shm_open(int fd, struct moon_shm **out);
void moon_shm_close(struct moon_shm *shm);

/* Before a worker starts in it: counters stay, the rest is cleared. */
void moon_shm_reset_slot(struct moon_worker_slot *slot);
/* Mean of connections over the serving workers of both sides that are not
 * stale; `ctx` is the struct moon_shm. */
uint32_t moon_shm_average_connections(void *ctx);

static inline uint32_t moon_shm_get32(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void moon_shm_set32(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t moon_shm_get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void moon_shm_set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void moon_shm_add(_Atomic uint64_t *word, uint64_t more)
{
    (void)atomic_fetch_add_explicit(word, more, memory_order_relaxed);
}

/* Sum of one counter over all slots. */
uint64_t moon_shm_sum(const struct moon_shm *shm, enum moon_counter counter);
const char *moon_death_name(enum moon_death death);
/* Snake-case name and help text. */
const char *moon_counter_name(enum moon_counter counter);
const char *moon_counter_help(enum moon_counter counter);

#endif
