/* CPU watchdog and the tripping of runaway Lua code.
 *
 * One watchdog thread per process watches slices of Lua execution on one or
 * more threads (the loop, the builder). A slice is what runs between
 * moon_budget_enter and moon_budget_leave; both cost a few instructions. At
 * overstay the watchdog signals the thread, whose handler (only if the same
 * slice still runs) sets the VM's trap: a word that safepoints read and a debug
 * hook. Both raise the same Lua error again and again until the trap is
 * cleared, so that no pcall can swallow it.
 * The trap belongs to the VM's owner and lives as long as the VM. */
#ifndef MOON_VM_BUDGET_H
#define MOON_VM_BUDGET_H

#include "base/clock.h"
#include "base/compiler.h"
#include "base/errcode.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct lua_Debug;
struct lua_State;
struct moon_budget;

/* Real-time signal that the watchdog sends to a watched thread. */
#define MOON_BUDGET_SIGNAL (SIGRTMIN + 3)

enum moon_trip {
    MOON_TRIP_NONE,
    MOON_TRIP_CPU,       /* limit in milliseconds of CPU */
    MOON_TRIP_MEMORY,    /* limit in bytes */
    MOON_TRIP_TIMEOUT,   /* limit in milliseconds of wall time */
    MOON_TRIP_CANCELLED, /* no limit */
};

/* One per VM; zero-initialised is "not tripped". Written on the thread that
 * runs the VM only (a signal handler counts as that thread). */
struct moon_trap {
    volatile int32_t word; /* enum moon_trip, read by compiled code */
    uint64_t limit;        /* what was exceeded, in the unit of the reason */
    char where[96];        /* "file.lua:12" of the first raise, else empty */
    /* The hook on lines while the trap is not set (vm/coverage.h); NULL. */
    void (*rest)(struct lua_State *, struct lua_Debug *);
};

/* Published per watched thread; may lie in memory shared with the master. */
struct moon_slice {
    _Atomic uint32_t seq;      /* odd while Lua runs, +1 at entry and exit */
    _Atomic uint32_t limit_ms; /* CPU allowed in this slice */
};

/* One watched thread. Fields are for the inline functions below only. */
struct moon_watch {
    struct moon_slice *slice;
    struct lua_State *L;
    struct moon_trap *trap;
    _Atomic int *asleep; /* of the watchdog */
    /* Written by the watchdog: the slice that two looks in a row have met, and
     * the time of the first (moon_clock_coarse_ms). */
    _Atomic uint32_t long_seq;
    _Atomic uint64_t long_since_ms;
    uint64_t longest_ms; /* of the slices since it was last taken */
    struct moon_budget *budget;
};

/* Starts the watchdog thread; destroy stops and joins it (all threads must
 * have been unwatched, except the caller's own). After a fork the child makes
 * its own. */
MOON_MUST_CHECK enum moon_err moon_budget_create(struct moon_budget **out);
void moon_budget_destroy(struct moon_budget *budget);

/* Watches the calling thread. `slice` is borrowed until unwatch; NULL for a
 * private one. Unblocks MOON_BUDGET_SIGNAL in this thread. NULL: no memory, or
 * too many threads. Unwatch is called on the same thread, outside a slice. */
struct moon_watch *moon_budget_watch(struct moon_budget *budget,
                                     struct moon_slice *slice);
void moon_budget_unwatch(struct moon_watch *watch);

void moon_budget_wake(struct moon_watch *watch); /* slow path of enter */

/* L is any thread of the VM that is about to run. limit_ms 0: no limit. */
static inline void moon_budget_enter(struct moon_watch *watch,
                                     struct lua_State *L,
                                     struct moon_trap *trap, uint32_t limit_ms)
{
    struct moon_slice *slice = watch->slice;
    uint32_t seq = atomic_load_explicit(&slice->seq, memory_order_relaxed);
    watch->L = L;
    watch->trap = trap;
    atomic_store_explicit(&slice->limit_ms, limit_ms, memory_order_relaxed);
    atomic_store_explicit(&slice->seq, seq + 1, memory_order_release);
    /* The watchdog pairs this with a membarrier before it falls asleep. */
    atomic_signal_fence(memory_order_seq_cst);
    if (MOON_UNLIKELY(
            atomic_load_explicit(watch->asleep, memory_order_relaxed) != 0))
        moon_budget_wake(watch);
}

/* Milliseconds of wall time that the slice took, to about 20 ms; 0 when it was
 * shorter than the watchdog can tell. Reads no clock then. */
static inline uint64_t moon_budget_leave(struct moon_watch *watch)
{
    uint32_t seq =
        atomic_load_explicit(&watch->slice->seq, memory_order_relaxed);
    atomic_store_explicit(&watch->slice->seq, seq + 1, memory_order_release);
    if (MOON_LIKELY(atomic_load_explicit(&watch->long_seq,
                                         memory_order_acquire) != seq))
        return 0;
    uint64_t took =
        moon_clock_coarse_ms() -
        atomic_load_explicit(&watch->long_since_ms, memory_order_relaxed);
    if (took > watch->longest_ms)
        watch->longest_ms = took;
    return took;
}

/* What moon_budget_leave said at most since the last call of this. */
static inline uint64_t moon_budget_take_longest(struct moon_watch *watch)
{
    uint64_t longest_ms = watch->longest_ms;
    watch->longest_ms = 0;
    return longest_ms;
}

/* Trips the VM from the thread that runs it: memory cap, timeout, cancel. To
 * end a suspended coroutine: trip, then resume it; it raises at once. A trap
 * that is set already keeps its first reason. */
void moon_budget_trip(struct lua_State *L, struct moon_trap *trap,
                      enum moon_trip reason, uint64_t limit);

/* After the coroutine is out, before the VM runs anything else: removes hook
 * and word. A trap that is not set costs one comparison. */
void moon_budget_clear_slow(struct lua_State *L, struct moon_trap *trap);
static inline void moon_budget_clear(struct lua_State *L,
                                     struct moon_trap *trap)
{
    if (MOON_UNLIKELY(trap->word != MOON_TRIP_NONE))
        moon_budget_clear_slow(L, trap);
}

/* A hook that sees each line while nothing is tripped. Once tripped, the trap's
 * own takes its place until the trap is cleared. */
void moon_budget_set_rest(struct lua_State *L, struct moon_trap *trap,
                          void (*rest)(struct lua_State *, struct lua_Debug *));

/* "cpu limit of 250 ms exceeded" of a set trap, NUL-terminated into `text`. */
void moon_budget_text(const struct moon_trap *trap, char *text, size_t size);

/* Defines `__moon_check` in a VM whose standard libraries (string, ffi) are
 * open. Leaves the stack as it was; may raise, so it runs protected. */
void moon_budget_install(struct lua_State *L, struct moon_trap *trap);

#endif
