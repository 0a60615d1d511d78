/* Jobs on the thread pool: lanes, cancelling, who frees what when. The VM and
 * its tasks are bare structs here, for nothing of this enters Lua. */
#include "vm/work.h"

#include "base/clock.h"
#include "vm/vm_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000, TASKS = 8 };

static uv_loop_t loop;
static struct moon_vm vm;
static struct moon_task tasks[TASKS];
static struct moon_work_lane lane;
static uv_sem_t gate; /* what a job waits for */
static _Atomic int running, most, ran;
static int destroyed, idle;

struct job {
    struct moon_work work;
    int sum;
};

static void run(struct moon_work *work)
{
    struct job *job = MOON_CONTAINER(work, struct job, work);
    int now = atomic_fetch_add(&running, 1) + 1;
    if (now > atomic_load(&most))
        atomic_store(&most, now);
    uv_sem_wait(&gate);
    job->sum = 40 + 2;
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&ran, 1);
}

static void destroy(struct moon_work *work)
{
    destroyed++;
    free(MOON_CONTAINER(work, struct job, work));
}

static void on_idle(void *ctx)
{
    (void)ctx;
    idle++;
}

static int set_up(void **state)
{
    (void)state;
    memset(&vm, 0, sizeof(vm));
    memset(tasks, 0, sizeof(tasks));
    lane = (struct moon_work_lane){.max_running = 2, .max_waiting = 2};
    vm.loop = &loop;
    vm.open_handles = 1; /* for those that a real one has of its own */
    vm.idle_cb = on_idle;
    for (int i = 0; i < TASKS; i++) {
        tasks[i].vm = &vm;
        /* Woken before it yields, so that nobody resumes it. */
        tasks[i].state = MOON_TASK_RUNNING;
    }
    destroyed = idle = 0;
    atomic_store(&ran, 0);
    atomic_store(&most, 0);
    return uv_loop_init(&loop) != 0 || uv_sem_init(&gate, 0) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    moon_task_set_running(NULL);
    uv_sem_destroy(&gate);
    return uv_loop_close(&loop);
}

static struct job *make(uint64_t weight)
{
    struct job *job = calloc(1, sizeof(*job));
    assert_non_null(job);
    moon_work_init(&job->work, run, destroy, weight);
    return job;
}

static enum moon_err start(int task, struct job *job)
{
    moon_task_set_running(&tasks[task]);
    return moon_work_start(&lane, &job->work, "test");
}

/* As the gate does when a task is ended. */
static void cancel(int task)
{
    moon_task_undo *undo = tasks[task].undo;
    assert_non_null(undo);
    tasks[task].undo = NULL;
    undo(&tasks[task], tasks[task].undo_data);
}

static void turn_until(const _Atomic int *count, int value)
{
    uint64_t deadline = moon_clock_ms() + PATIENCE_MS;
    while (atomic_load(count) != value && moon_clock_ms() < deadline)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(atomic_load(count), value);
}

static void open_gate(int times)
{
    while (times-- > 0)
        uv_sem_post(&gate);
}

/* Until nothing is left on the loop, which is when the jobs are over. */
static void turn_to_the_end(void)
{
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static void wakes_the_task(void **state)
{
    (void)state;
    struct job *job = make(1);
    assert_int_equal(start(0, job), MOON_OK);
    assert_string_equal(tasks[0].wait_what, "test");
    assert_int_equal(vm.open_handles, 2);
    open_gate(1);
    turn_to_the_end();
    assert_int_equal(tasks[0].state, MOON_TASK_READY);
    assert_null(tasks[0].undo);
    assert_int_equal(job->sum, 42);
    assert_int_equal(vm.open_handles, 1);
    assert_int_equal(destroyed, 0); /* its maker still holds it */
    moon_work_release(&job->work);
    assert_int_equal(destroyed, 1);
}

static void needs_a_task_that_may_wait(void **state)
{
    (void)state;
    struct job *job = make(1), *second = make(1);
    moon_task_set_running(NULL);
    assert_int_equal(moon_work_start(&lane, &job->work, "test"), MOON_EDENIED);
    assert_int_equal(start(0, job), MOON_OK);
    assert_int_equal(start(0, second), MOON_EDENIED);
    assert_int_equal(lane.running, 1);
    moon_work_release(&second->work);
    assert_int_equal(destroyed, 1);
    open_gate(1);
    turn_to_the_end();
    moon_work_release(&job->work);
}

static void lanes_are_bounded(void **state)
{
    (void)state;
    struct job *jobs[5];
    for (int i = 0; i < 5; i++)
        jobs[i] = make(1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(start(i, jobs[i]), MOON_OK);
    assert_int_equal(start(4, jobs[4]), MOON_EFULL);
    assert_int_equal(lane.running, 2);
    assert_int_equal(lane.waiting, 2);
    assert_int_equal(vm.open_handles, 5);
    open_gate(4);
    turn_to_the_end();
    assert_int_equal(atomic_load(&ran), 4);
    assert_in_range(atomic_load(&most), 1, 2);
    assert_int_equal(lane.running + lane.waiting, 0);
    assert_int_equal(lane.weight, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(tasks[i].state, MOON_TASK_READY);
    for (int i = 0; i < 5; i++)
        moon_work_release(&jobs[i]->work);
    assert_int_equal(destroyed, 5);
}

static void weight_is_bounded(void **state)
{
    (void)state;
    lane.max_weight = 100;
    struct job *heavy = make(101), *a = make(60), *b = make(60), *c = make(1);
    assert_int_equal(start(0, heavy), MOON_ETOO_BIG);
    assert_int_equal(start(0, a), MOON_OK);
    assert_int_equal(start(1, b), MOON_OK);
    assert_int_equal(lane.running, 1);
    /* There is room for it, but it does not overtake. */
    assert_int_equal(start(2, c), MOON_OK);
    assert_int_equal(lane.waiting, 2);
    open_gate(1);
    turn_until(&ran, 1);
    /* The one that held it up is gone: it runs beside the heavy one. */
    turn_until(&running, 2);
    open_gate(2);
    turn_to_the_end();
    assert_int_equal(lane.weight, 0);
    moon_work_release(&heavy->work);
    moon_work_release(&a->work);
    moon_work_release(&b->work);
    moon_work_release(&c->work);
    assert_int_equal(destroyed, 4);
}

static void cancelled_while_it_waits(void **state)
{
    (void)state;
    struct job *jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = make(1);
        assert_int_equal(start(i, jobs[i]), MOON_OK);
    }
    cancel(3); /* the last one */
    cancel(2); /* and the one that is first now */
    assert_int_equal(lane.waiting, 0);
    assert_int_equal(vm.open_handles, 3);
    assert_int_equal(destroyed, 0);
    moon_work_release(&jobs[2]->work);
    moon_work_release(&jobs[3]->work);
    assert_int_equal(destroyed, 2);
    open_gate(2);
    turn_to_the_end();
    assert_int_equal(atomic_load(&ran), 2);
    moon_work_release(&jobs[0]->work);
    moon_work_release(&jobs[1]->work);
}

static void cancelled_while_it_runs(void **state)
{
    (void)state;
    struct job *job = make(1);
    assert_int_equal(start(0, job), MOON_OK);
    turn_until(&running, 1);
    cancel(0);
    moon_work_release(&job->work); /* the collector was quick */
    assert_int_equal(destroyed, 0);
    assert_int_equal(vm.open_handles, 2);
    open_gate(1);
    turn_to_the_end();
    assert_int_equal(atomic_load(&ran), 1);
    assert_int_equal(destroyed, 1);
    assert_int_equal(tasks[0].state, MOON_TASK_RUNNING); /* was not woken */
}

/* Those ahead of it in libuv's own queue hold all four threads. */
static void cancelled_before_libuv_ran_it(void **state)
{
    (void)state;
    struct job *jobs[5];
    lane.max_running = 5;
    for (int i = 0; i < 5; i++) {
        jobs[i] = make(1);
        assert_int_equal(start(i, jobs[i]), MOON_OK);
    }
    turn_until(&running, 4);
    cancel(4);
    moon_work_release(&jobs[4]->work);
    open_gate(4);
    turn_to_the_end();
    assert_int_equal(atomic_load(&ran), 4);
    assert_int_equal(destroyed, 1);
    for (int i = 0; i < 4; i++)
        moon_work_release(&jobs[i]->work);
}

/* It closed everything else meanwhile; the job is the last it waits for. */
static void keeps_the_vm(void **state)
{
    (void)state;
    struct job *job = make(1);
    assert_int_equal(start(0, job), MOON_OK);
    cancel(0);
    vm.phase = MOON_VM_CLOSING;
    moon_vm_handle_gone(&vm);
    assert_int_equal(idle, 0);
    open_gate(1);
    turn_to_the_end();
    assert_int_equal(idle, 1);
    assert_int_equal(vm.phase, MOON_VM_IDLE);
    moon_work_release(&job->work);
    assert_int_equal(destroyed, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(wakes_the_task),
        TEST(needs_a_task_that_may_wait),
        TEST(lanes_are_bounded),
        TEST(weight_is_bounded),
        TEST(cancelled_while_it_waits),
        TEST(cancelled_while_it_runs),
        TEST(cancelled_before_libuv_ran_it),
        TEST(keeps_the_vm),
    };
    (void)setenv("UV_THREADPOOL_SIZE", "4", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
