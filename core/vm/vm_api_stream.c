#include "vm/vm_api.h"

#include "vm/task.h"
#include "vm/vm_internal.h"

/* What a task waits on is told by the data of its pending operation. */
static const char readable, writable, sent;

void moon_api_stream_keep(void)
{
}

/* The connection finds nobody waiting. */
static void forget(struct moon_task *task, void *data)
{
    (void)data;
    if (task->guest_of != NULL)
        task->vm->guest_count--;
    task->guest_of = NULL;
}

static int wait_for(moon_slot *slot, const char *tag, const char *whatz)
{
    struct moon_task *task = moon_task_running();
    if (moon_slot_x(slot) == NULL)
        return MOON_ECLOSED;
    enum moon_err err =
        moon_task_wait(task, whatz, forget, (void *)(uintptr_t)tag);
    if (err == MOON_OK && task->x != moon_slot_x(slot)) {
        task->guest_of = slot;
        task->vm->guest_count++;
    }
    return err;
}

static bool wakes(struct moon_task *task, const char *tag)
{
    if (task->undo != forget || task->undo_data != tag)
        return false;
    forget(task, NULL);
    moon_task_wake(task, 1);
    return true;
}

/* Mostly the task that serves x waits, sometimes those that it started, or that
 * were given its context or what writes its answer. */
static void wake(struct moon_exchange *x, const char *tag)
{
    struct moon_task *task = x->task;
    if (task == NULL)
        return;
    struct moon_vm *vm = task->vm;
    bool found = wakes(task, tag);
    if (vm->guest_count == 0 && (found || vm->child_count == 0))
        return;
    const struct moon_slot *slot = vm->slots[task->slot - 1];
    for (struct moon_task *at = vm->live; at != NULL; at = at->next) {
        if (at->x == x || at->guest_of == slot)
            (void)wakes(at, tag);
    }
}

void moon_vm_dismiss_guests(struct moon_vm *vm, const struct moon_slot *slot)
{
    for (struct moon_task *at = vm->live; at != NULL; at = at->next) {
        if (at->guest_of != slot)
            continue;
        forget(at, NULL);
        moon_task_wake(at, 0);
    }
}

void moon_vm_on_readable(struct moon_exchange *x)
{
    wake(x, &readable);
}

void moon_vm_on_writable(struct moon_exchange *x)
{
    wake(x, &writable);
}

void moon_vm_on_sent(struct moon_exchange *x)
{
    wake(x, &sent);
}

/* ---- request bodies ---- */

int moon_req_read(moon_slot *slot, size_t max, moon_bytes *out)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str piece = MOON_STR_NONE;
    if (x == NULL)
        return -2;
    switch (x->ops->body_read(x, max, &piece)) {
    case MOON_OK:
        *out = moon_bytes_of(piece);
        return piece.len > 0 ? 1 : 0;
    case MOON_EAGAIN:
        return -1;
    case MOON_ETOO_BIG:
        return -3;
    default:
        return -2;
    }
}

int moon_req_wait_readable(moon_slot *slot)
{
    return wait_for(slot, &readable, "request body");
}

/* ---- response bodies ---- */

int moon_res_stream_begin(moon_slot *slot, const char *type, size_t type_len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str set;
    if (x == NULL)
        return MOON_ECLOSED;
    if (x->res.status == 0)
        x->res.status = 200;
    if (!moon_response_get(&x->res, MOON_STR("Content-Type"), 0, &set)) {
        enum moon_err err =
            moon_response_set(&x->res, &x->arena, MOON_STR("Content-Type"),
                              moon_str(type, type_len));
        if (err != MOON_OK)
            return err;
    }
    return x->ops->stream_begin(x);
}

int moon_res_stream_write(moon_slot *slot, const char *bytes, size_t len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || x->state != MOON_X_STREAM)
        return MOON_ECLOSED;
    return x->ops->stream_write(x, moon_str(bytes, len));
}

void moon_res_stream_flush(moon_slot *slot)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x != NULL && x->state == MOON_X_STREAM)
        x->ops->stream_flush(x);
}

void moon_res_stream_end(moon_slot *slot, bool complete)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x != NULL && x->state == MOON_X_STREAM)
        x->ops->stream_end(x, complete);
}

int moon_res_wait_writable(moon_slot *slot)
{
    return wait_for(slot, &writable, "client to read");
}

int moon_res_wait_sent(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || x->conn == NULL || x->client_gone)
        return 1;
    return wait_for(slot, &sent, "response to leave");
}
