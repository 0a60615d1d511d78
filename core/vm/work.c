#include "vm/work.h"

#include "vm/vm_internal.h"

void moon_work_init(struct moon_work *work, moon_work_fn *run,
                    moon_work_fn *destroy, uint64_t weight)
{
    *work = (struct moon_work){
        .run = run, .destroy = destroy, .weight = weight, .held = true};
}

void moon_work_release(struct moon_work *work)
{
    work->held = false;
    if (!work->pooled)
        work->destroy(work);
}

/* The pool lets go. Last, because the VM may be gone after it. */
static void leave_pool(struct moon_work *work)
{
    struct moon_vm *vm = work->vm;
    work->pooled = false;
    work->vm = NULL;
    if (!work->held)
        work->destroy(work);
    moon_vm_handle_gone(vm);
}

/* ---- the lane ---- */

static void start_more(struct moon_work_lane *lane);

static bool has_room(const struct moon_work_lane *lane,
                     const struct moon_work *work)
{
    return lane->running < lane->max_running &&
           (lane->max_weight == 0 ||
            lane->weight + work->weight <= lane->max_weight);
}

static void on_run(uv_work_t *req)
{
    struct moon_work *work = MOON_CONTAINER(req, struct moon_work, req);
    work->run(work);
}

static void on_over(uv_work_t *req, int status)
{
    struct moon_work *work = MOON_CONTAINER(req, struct moon_work, req);
    struct moon_work_lane *lane = work->lane;
    (void)status; /* cancelled: then no task waits */
    lane->running--;
    lane->weight -= work->weight;
    if (work->task != NULL) {
        moon_task_wake(work->task, 0);
        work->task = NULL;
    }
    start_more(lane);
    leave_pool(work);
}

static void submit(struct moon_work_lane *lane, struct moon_work *work)
{
    lane->running++;
    lane->weight += work->weight;
    work->submitted = true;
    (void)uv_queue_work(work->vm->loop, &work->req, on_run, on_over);
}

static void append(struct moon_work_lane *lane, struct moon_work *work)
{
    work->next = NULL;
    if (lane->last != NULL)
        lane->last->next = work;
    else
        lane->first = work;
    lane->last = work;
    lane->waiting++;
}

static void take_out(struct moon_work_lane *lane, struct moon_work *work)
{
    struct moon_work *before = NULL;
    for (struct moon_work *at = lane->first; at != work; at = at->next)
        before = at;
    if (before != NULL)
        before->next = work->next;
    else
        lane->first = work->next;
    if (lane->last == work)
        lane->last = before;
    lane->waiting--;
}

/* In order, so that a heavy job is not overtaken for ever. */
static void start_more(struct moon_work_lane *lane)
{
    while (lane->first != NULL && has_room(lane, lane->first)) {
        struct moon_work *work = lane->first;
        take_out(lane, work);
        submit(lane, work);
    }
}

/* ---- starting and giving up ---- */

/* Undo: the waiting task is being ended. */
static void undo(struct moon_task *task, void *data)
{
    struct moon_work *work = data;
    struct moon_work_lane *lane = work->lane;
    (void)task;
    work->task = NULL;
    if (work->submitted) { /* on_over follows, soon or when it has run */
        (void)uv_cancel((uv_req_t *)&work->req);
        return;
    }
    take_out(lane, work);
    leave_pool(work);
    start_more(lane); /* it may have been a heavy one that held up others */
}

enum moon_err moon_work_start(struct moon_work_lane *lane,
                              struct moon_work *work, const char *what_z)
{
    struct moon_task *task = moon_task_running();
    if (lane->max_weight != 0 && work->weight > lane->max_weight)
        return MOON_ETOO_BIG;
    bool now = lane->first == NULL && has_room(lane, work);
    if (!now && lane->waiting >= lane->max_waiting)
        return MOON_EFULL;
    enum moon_err err = moon_task_wait(task, what_z, undo, work);
    if (err != MOON_OK)
        return err;
    work->lane = lane;
    work->task = task;
    work->vm = task->vm;
    work->vm->open_handles++;
    work->pooled = true;
    if (now)
        submit(lane, work);
    else
        append(lane, work);
    return MOON_OK;
}
