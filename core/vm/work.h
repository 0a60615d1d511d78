/* Work on libuv's thread pool while a task waits: what takes long in C and
 * touches neither Lua nor the loop, such as hashing a password or copying a
 * file.
 *
 * A job is a struct of the caller with a moon_work in it. It has two owners:
 * its maker, until moon_work_release, and the pool, from moon_work_start until
 * the run is over; `destroy` is called when both have let go. So a task that is
 * cancelled ends at once and its job by itself: it leaves the queue or, if it
 * runs already, nobody asks for its result. The VM counts it among its open
 * handles and is not destroyed before. A worker that drains waits for what runs
 * until drain_timeout, then exits under it.
 *
 * Jobs of a kind share a lane, which bounds how many run and how many wait; one
 * lane per kind and loop thread. All on the loop thread but `run`; the release
 * also on the thread that closes the VM. */
#ifndef MOON_VM_WORK_H
#define MOON_VM_WORK_H

#include "base/compiler.h"
#include "base/errcode.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct moon_task;
struct moon_vm;
struct moon_work;

typedef void moon_work_fn(struct moon_work *work);

/* Zeroed but for the limits, which may change at any time. The pool has four
 * threads, which name lookups need too: no lane should take all of them. */
struct moon_work_lane {
    uint32_t max_running;
    uint32_t max_waiting;
    uint64_t max_weight; /* of what runs together; 0: any */

    uint32_t running, waiting;
    uint64_t weight;
    struct moon_work *first, *last; /* waiting */
};

struct moon_work {
    uv_work_t req;
    moon_work_fn *run;     /* on a thread of the pool, at most once */
    moon_work_fn *destroy; /* frees the job, also one that never ran */
    uint64_t weight;       /* what it takes of its lane: bytes, say */
    struct moon_work_lane *lane;
    struct moon_vm *vm;     /* while the pool owns it */
    struct moon_task *task; /* that waits for it; NULL: none does any more */
    struct moon_work *next; /* in the lane */
    bool held;              /* by its maker */
    bool pooled;            /* by the pool: it waits or runs */
    bool submitted;         /* out of the lane, with libuv */
};

/* Its maker holds it. The other fields are private to this module. */
void moon_work_init(struct moon_work *work, moon_work_fn *run,
                    moon_work_fn *destroy, uint64_t weight);

/* Queues it; the running task's next yield suspends it until the run is over,
 * then the maker reads the result. Once per job. MOON_EFULL when as many wait
 * as may, MOON_ETOO_BIG when the lane could never carry it, MOON_EDENIED when
 * the running code may not wait; then nothing has happened. `what_z` is shown
 * by `status --requests`. */
MOON_MUST_CHECK enum moon_err moon_work_start(struct moon_work_lane *lane,
                                              struct moon_work *work,
                                              const char *what_z);

/* The maker lets go: it must not be touched after. */
void moon_work_release(struct moon_work *work);

#endif
