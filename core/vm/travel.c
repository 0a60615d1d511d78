#include "vm/travel.h"

#include "base/clock.h"
#include "vm/abi.h"
#include "vm/vm_internal.h"

#include <poll.h>

/* A park beyond this is for ever: the clock of a test will not get there. */
#define PARK_MAX_MS 1e12

/* Turns of the loop in which nothing happens until all is at rest: a connection
 * takes one to be watched, another one to be read. Then how many at most, and
 * how long jobs may take. */
enum { QUIET_TURNS = 4, TURNS_MAX = 10000, JOB_MS = 5 };
#define JOBS_NS 5000000000u

static uint64_t now_ns(void)
{
    return moon_clock_ns() + moon_clock_shift_ns;
}

void moon_travel_note(struct moon_task *task, double timeout_ms)
{
    double ms = timeout_ms > PARK_MAX_MS ? PARK_MAX_MS : timeout_ms;
    task->due_ns = now_ns() + (uint64_t)(ms * 1e6);
}

void moon_travel_due_at(double clock)
{
    struct moon_task *task = moon_task_running();
    if (task != NULL && clock > 0 && clock * 1e9 < 1e18)
        task->due_ns = (uint64_t)(clock * 1e9) + 1; /* not before it */
}

static bool waits_for_time(const struct moon_task *task)
{
    return task->parked && task->timer_open &&
           uv_is_active((const uv_handle_t *)&task->timer);
}

static struct moon_task *first_due(const struct moon_vm *vm)
{
    struct moon_task *first = NULL;
    for (struct moon_task *task = vm->live; task != NULL; task = task->next) {
        if (waits_for_time(task) &&
            (first == NULL || task->due_ns < first->due_ns))
            first = task;
    }
    return first;
}

struct moon_task *moon_travel_due(struct moon_task *task)
{
    struct moon_task *first = first_due(task->vm);
    if (first == NULL || first->due_ns >= task->due_ns)
        return task;
    (void)uv_timer_stop(&first->timer);
    moon_task_arm(task, 0);
    return first;
}

/* Timers count real milliseconds, so each has to be set anew. */
static void move_to(struct moon_vm *vm, uint64_t to_ns)
{
    uint64_t now = now_ns();
    if (to_ns <= now)
        return;
    moon_clock_shift_ns += to_ns - now;
    for (struct moon_task *task = vm->live; task != NULL; task = task->next) {
        if (waits_for_time(task))
            moon_task_arm(task, task->due_ns > to_ns
                                    ? (task->due_ns - to_ns) / 1000000 + 1
                                    : 0);
    }
}

bool moon_travel_next(double target)
{
    struct moon_vm *vm = moon_vm_here();
    if (vm == NULL || !vm->options.probe)
        return false;
    uint64_t target_ns = (uint64_t)(target * 1e9) + 1;
    struct moon_task *task = first_due(vm);
    if (task == NULL || task->due_ns > target_ns) {
        move_to(vm, target_ns);
        return false;
    }
    move_to(vm, task->due_ns);
    (void)uv_timer_stop(&task->timer);
    moon_task_make_ready(task, 0);
    return true;
}

/* Did nothing but the caller run since it asked last, and is nothing under way?
 * Jobs on the thread pool are given a moment to end. */
static bool is_quiet(struct moon_vm *vm, uint64_t slices)
{
    bool alone = vm->stats.slices == slices + 1 && vm->ready_first == NULL;
    bool jobs = vm->loop->active_reqs.count > 0 || vm->redis.waiting > 0;
    /* The loop's own descriptor is readable when it has an event to deliver. */
    struct pollfd events = {.fd = uv_backend_fd(vm->loop), .events = POLLIN};
    bool event = poll(&events, 1, alone && jobs ? JOB_MS : 0) != 0;
    return alone && !jobs && !event;
}

bool moon_travel_rests(bool begin)
{
    static struct {
        uint64_t slices, began_ns;
        uint32_t quiet, turns;
    } seen;
    struct moon_vm *vm = moon_vm_here();
    if (vm == NULL || vm->loop == NULL)
        return true;
    if (begin) {
        seen.began_ns = moon_clock_ns();
        seen.quiet = seen.turns = 0;
    }
    seen.quiet = is_quiet(vm, seen.slices) ? seen.quiet + 1 : 0;
    seen.slices = vm->stats.slices;
    if (seen.quiet >= QUIET_TURNS)
        return true;
    /* A task that never waits, or a job that takes its time. */
    return vm->loop->active_reqs.count > 0 || vm->redis.waiting > 0
               ? moon_clock_ns() - seen.began_ns > JOBS_NS
               : ++seen.turns > TURNS_MAX;
}
