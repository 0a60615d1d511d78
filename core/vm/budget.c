#include "vm/budget.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_WATCHES 4
#define LOOK_NS 20000000LL /* between two looks while slices move */
#define IDLE_LOOKS 50      /* looks without a slice before falling asleep */
#define ASLEEP_NS                                               \
    1000000000LL /* without membarrier: a missed wake ends here \
                  */

/* The inline part first, so that a moon_watch * converts. */
struct watched {
    struct moon_watch pub;
    struct moon_slice own_slice;
    bool taken;
    pthread_t thread;
    clockid_t clock;
    uint32_t seen;           /* last seq that was looked at */
    int64_t since_ns;        /* thread CPU when `seen` was first seen */
    uint64_t since_ms;       /* wall time of the same look */
    _Atomic uint32_t doomed; /* seq that the signal is meant for */
};

struct moon_budget {
    pthread_t thread;
    pthread_mutex_t lock; /* watches, stop, sleeping */
    pthread_cond_t wake;
    bool stop;
    _Atomic int asleep;
    struct watched watches[MAX_WATCHES];
};

/* The watch of this thread, for the signal handler. */
static _Thread_local struct watched *here;

/* Runs on the watched thread, so it cannot race with enter and leave: the
 * slice that was doomed either still runs here or is over. */
static void on_signal(int sig)
{
    (void)sig;
    struct watched *w = here;
    if (w == NULL)
        return;
    int saved = errno;
    struct moon_slice *slice = w->pub.slice;
    uint32_t seq = atomic_load_explicit(&slice->seq, memory_order_relaxed);
    if ((seq & 1) == 1 && seq == atomic_load(&w->doomed))
        moon_budget_trip(
            w->pub.L, w->pub.trap, MOON_TRIP_CPU,
            atomic_load_explicit(&slice->limit_ms, memory_order_relaxed));
    errno = saved;
}

static int64_t cpu_ns(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts) != 0)
        return 0;
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Looks at one thread. Returns in how many ns it wants the next look, 0 if
 * nothing has run since the last one. */
static int64_t look(struct watched *w)
{
    struct moon_slice *slice = w->pub.slice;
    uint32_t seq = atomic_load_explicit(&slice->seq, memory_order_acquire);
    bool moved = seq != w->seen;
    if (moved)
        atomic_store_explicit(&w->pub.long_seq, 0, memory_order_relaxed);
    if ((seq & 1) == 0) {
        w->seen = seq;
        return moved ? LOOK_NS : 0;
    }
    int64_t now = cpu_ns(w->clock);
    if (moved) {
        w->seen = seq;
        w->since_ns = now;
        w->since_ms = moon_clock_coarse_ms();
    } else {
        atomic_store_explicit(&w->pub.long_since_ms, w->since_ms,
                              memory_order_relaxed);
        atomic_store_explicit(&w->pub.long_seq, seq, memory_order_release);
    }
    int64_t limit =
        (int64_t)atomic_load_explicit(&slice->limit_ms, memory_order_relaxed) *
        1000000;
    if (limit == 0)
        return LOOK_NS;
    int64_t left = limit - (now - w->since_ns);
    if (left > 0)
        return left < LOOK_NS ? left : LOOK_NS;
    /* Sent again at each look until the slice ends: a long C call, or a
     * switch of LuaJIT's dispatch table, may have made the first one moot. */
    atomic_store(&w->doomed, seq);
    (void)pthread_kill(w->thread, MOON_BUDGET_SIGNAL);
    return LOOK_NS;
}

static void wait_ns(struct moon_budget *b, int64_t ns)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t at = until.tv_nsec + ns;
    until.tv_sec += at / 1000000000;
    until.tv_nsec = (long)(at % 1000000000);
    (void)pthread_cond_timedwait(&b->wake, &b->lock, &until);
}

static bool anything_new(struct moon_budget *b)
{
    for (size_t i = 0; i < MAX_WATCHES; i++) {
        struct watched *w = &b->watches[i];
        if (w->taken && atomic_load(&w->pub.slice->seq) != w->seen)
            return true;
    }
    return false;
}

/* Called and returns locked. enter stores seq, then reads asleep, without a
 * fence; the membarrier here makes that safe: it either sees us asleep or we
 * see its seq. */
static void fall_asleep(struct moon_budget *b)
{
    atomic_store(&b->asleep, 1);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    while (!b->stop && atomic_load(&b->asleep) == 1 && !anything_new(b))
        wait_ns(b, ASLEEP_NS);
    atomic_store(&b->asleep, 0);
}

static void *watch_loop(void *arg)
{
    struct moon_budget *b = arg;
    int idle = 0;
    (void)pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        int64_t next = 0;
        for (size_t i = 0; i < MAX_WATCHES; i++) {
            int64_t want = b->watches[i].taken ? look(&b->watches[i]) : 0;
            if (want > 0 && (next == 0 || want < next))
                next = want;
        }
        idle = next > 0 ? 0 : idle + 1;
        if (idle > IDLE_LOOKS) {
            fall_asleep(b);
            idle = 0;
        } else {
            wait_ns(b, next > 0 ? next : LOOK_NS);
        }
    }
    (void)pthread_mutex_unlock(&b->lock);
    return NULL;
}

void moon_budget_wake(struct moon_watch *watch)
{
    struct moon_budget *b = watch->budget;
    (void)pthread_mutex_lock(&b->lock);
    atomic_store(&b->asleep, 0);
    (void)pthread_cond_signal(&b->wake);
    (void)pthread_mutex_unlock(&b->lock);
}

static enum moon_err start_thread(struct moon_budget *b)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&b->thread, NULL, watch_loop, b);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? MOON_OK : moon_err_from_errno(failed);
}

enum moon_err moon_budget_create(struct moon_budget **out)
{
    struct moon_budget *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return MOON_ENOMEM;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigfillset(&action.sa_mask);
    if (sigaction(MOON_BUDGET_SIGNAL, &action, NULL) != 0) {
        free(b);
        return MOON_ESYS;
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&b->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
                  0);
    enum moon_err err = start_thread(b);
    if (err != MOON_OK) {
        (void)pthread_cond_destroy(&b->wake);
        (void)pthread_mutex_destroy(&b->lock);
        free(b);
        return err;
    }
    *out = b;
    return MOON_OK;
}

void moon_budget_destroy(struct moon_budget *b)
{
    (void)pthread_mutex_lock(&b->lock);
    b->stop = true;
    (void)pthread_cond_signal(&b->wake);
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_join(b->thread, NULL);
    if (here != NULL && here->pub.budget == b)
        here = NULL;
    (void)pthread_cond_destroy(&b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}

struct moon_watch *moon_budget_watch(struct moon_budget *b,
                                     struct moon_slice *slice)
{
    struct watched *w = NULL;
    (void)pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < MAX_WATCHES && w == NULL; i++) {
        if (!b->watches[i].taken)
            w = &b->watches[i];
    }
    if (w == NULL || pthread_getcpuclockid(pthread_self(), &w->clock) != 0) {
        (void)pthread_mutex_unlock(&b->lock);
        return NULL;
    }
    w->pub = (struct moon_watch){
        .slice = slice != NULL ? slice : &w->own_slice,
        .asleep = &b->asleep,
        .budget = b,
    };
    w->thread = pthread_self();
    w->seen = atomic_load(&w->pub.slice->seq);
    atomic_store(&w->doomed, 0);
    w->taken = true;
    here = w;
    (void)pthread_mutex_unlock(&b->lock);
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, MOON_BUDGET_SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return &w->pub;
}

void moon_budget_unwatch(struct moon_watch *watch)
{
    struct watched *w = MOON_CONTAINER(watch, struct watched, pub);
    struct moon_budget *b = watch->budget;
    (void)pthread_mutex_lock(&b->lock);
    w->taken = false;
    here = NULL;
    (void)pthread_mutex_unlock(&b->lock);
}
