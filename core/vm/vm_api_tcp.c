#include "vm/vm_api_tcp.h"

#include "vm/abi.h"
#include "link/dial.h"
#include "link/link.h"
#include "link/pool.h"
#include "vm/vm_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* After EAGER_MAX operations that needed no wait the task lets others run, so
 * that a fast peer cannot hold the loop. */
enum { DONE, WAIT, DONE_MET, EAGER_MAX = 64, LONGEST_S = 366 * 86400 };
enum timeout { CONNECT, SEND, RECEIVE };

static const uint64_t default_timeout_ms[] = {10000, 60000, 60000};

/* An operation of one side. Its task is known by number too, since a task that
 * died before it fetched the outcome may serve another request by now. */
struct claim {
    struct moon_task *task;
    uint32_t number;
    bool pending; /* the task waits, and `err` is not known yet */
    enum moon_err err;
};

struct moon_tcp {
    struct moon_dial *dial; /* at most one of these two */
    struct moon_link *link;
    struct moon_task *owner; /* NULL when neither */
    struct moon_tcp *prev, *next;
    struct claim claims[2]; /* by side; a connect is on the write side */
    uint64_t timeout_ms[3];
    size_t limit;
    uint32_t uses, eager;
    struct moon_buf pool_name;
    char error[MOON_DIAL_ERROR_SIZE];
};

moon_tcp *moon_tcp_new(void)
{
    struct moon_tcp *tcp = calloc(1, sizeof(*tcp));
    if (tcp == NULL)
        return NULL;
    memcpy(tcp->timeout_ms, default_timeout_ms, sizeof(tcp->timeout_ms));
    tcp->limit = MOON_LINK_LIMIT;
    return tcp;
}

const char *moon_tcp_error(const moon_tcp *tcp)
{
    return tcp->error;
}

static int fail(struct moon_tcp *tcp, enum moon_err err, const char *whyz)
{
    (void)snprintf(tcp->error, sizeof(tcp->error), "%s", whyz);
    return err;
}

/* ---- whose it is ---- */

static void set_owner(struct moon_tcp *tcp, struct moon_task *task)
{
    /* A task that a request started works for the request's. */
    if (task->in_request && task->x != NULL && task->x->task != NULL)
        task = task->x->task;
    tcp->owner = task;
    tcp->prev = NULL;
    tcp->next = task->sockets;
    if (tcp->next != NULL)
        tcp->next->prev = tcp;
    task->sockets = tcp;
    task->holds = true;
}

static void leave_owner(struct moon_tcp *tcp)
{
    if (tcp->owner == NULL)
        return;
    if (tcp->prev != NULL)
        tcp->prev->next = tcp->next;
    else
        tcp->owner->sockets = tcp->next;
    if (tcp->next != NULL)
        tcp->next->prev = tcp->prev;
    tcp->owner = NULL;
    tcp->prev = tcp->next = NULL;
}

/* Ends the connection; a task that waits on it learns that it is closed. */
static void shut(struct moon_tcp *tcp)
{
    if (tcp->dial != NULL)
        moon_dial_cancel(tcp->dial);
    if (tcp->link != NULL)
        moon_link_close(tcp->link);
    tcp->dial = NULL;
    tcp->link = NULL;
    leave_owner(tcp);
    for (int side = 0; side < 2; side++) {
        struct claim *claim = &tcp->claims[side];
        if (!claim->pending)
            continue;
        claim->pending = false;
        claim->err = fail(tcp, MOON_ECLOSED, "closed");
        moon_task_wake(claim->task, 0);
    }
}

void moon_tcp_end_task(struct moon_task *task)
{
    while (task->sockets != NULL)
        shut(task->sockets);
}

void moon_tcp_free(moon_tcp *tcp)
{
    shut(tcp);
    moon_buf_deinit(&tcp->pool_name);
    free(tcp);
}

/* ---- waiting ---- */

/* Undo: the waiting task is being ended. Half an operation leaves a stream
 * that nobody can go on with. */
static void undo(struct moon_task *task, void *data)
{
    struct moon_tcp *tcp = data;
    for (int side = 0; side < 2; side++) {
        if (tcp->claims[side].task == task)
            tcp->claims[side].pending = false;
    }
    shut(tcp);
}

static bool is_busy(const struct moon_tcp *tcp, enum moon_link_side side)
{
    const struct claim *claim = &tcp->claims[side];
    return claim->task != NULL && claim->task->number == claim->number &&
           claim->task != moon_task_running();
}

/* Takes the side for the running task; 0, or why not. */
static int claim_side(struct moon_tcp *tcp, enum moon_link_side side)
{
    struct moon_task *task = moon_task_running();
    if (task == NULL)
        return fail(tcp, MOON_EDENIED, "not while loading");
    if (is_busy(tcp, side))
        return fail(tcp, MOON_EDENIED,
                    tcp->dial != NULL        ? "socket busy connecting"
                    : side == MOON_LINK_READ ? "socket busy reading"
                                             : "socket busy writing");
    tcp->claims[side] =
        (struct claim){.task = task, .number = task->number, .err = MOON_OK};
    return 0;
}

/* The first half of an operation: lets the task wait, or answers at once. */
static int settle(struct moon_tcp *tcp, enum moon_link_side side,
                  enum moon_err err, const char *what_z)
{
    struct claim *claim = &tcp->claims[side];
    claim->err = err;
    if (err == MOON_EAGAIN) {
        if (moon_task_wait(claim->task, what_z, undo, tcp) == MOON_OK) {
            claim->pending = true;
            tcp->eager = 0;
            return WAIT;
        }
        claim->task = NULL;
        shut(tcp);
        return fail(tcp, MOON_EDENIED, "the task waits already");
    }
    if (err == MOON_OK && ++tcp->eager >= EAGER_MAX &&
        moon_task_wait(claim->task, what_z, undo, tcp) == MOON_OK) {
        tcp->eager = 0;
        moon_task_make_ready(claim->task, 0);
        return WAIT;
    }
    return DONE;
}

/* The second half: the outcome, and the side is free. */
static int outcome(struct moon_tcp *tcp, enum moon_link_side side)
{
    struct claim *claim = &tcp->claims[side];
    if (claim->task != moon_task_running())
        return fail(tcp, MOON_ECLOSED, "closed");
    claim->task = NULL;
    if (claim->err == MOON_OK && tcp->link == NULL)
        return fail(tcp, MOON_ECLOSED, "closed"); /* since it ended well */
    return claim->err;
}

static void wake(struct moon_tcp *tcp, enum moon_link_side side,
                 enum moon_err err)
{
    struct claim *claim = &tcp->claims[side];
    claim->err = err;
    claim->pending = false;
    moon_task_wake(claim->task, 0);
}

static void on_link(void *owner, enum moon_link_side side, enum moon_err err)
{
    struct moon_tcp *tcp = owner;
    if (err != MOON_OK)
        (void)fail(tcp, err, moon_link_whyz(tcp->link));
    wake(tcp, side, err);
}

/* ---- connecting ---- */

static void adopt(struct moon_tcp *tcp, struct moon_link *link, uint32_t uses)
{
    tcp->link = link;
    tcp->uses = uses;
    moon_link_set_owner(link, on_link, tcp);
    moon_link_set_limit(link, tcp->limit);
}

static enum moon_err adopt_fd(struct moon_tcp *tcp, uv_loop_t *loop, int fd)
{
    struct moon_link *link = moon_link_create(loop, fd);
    if (link == NULL) {
        leave_owner(tcp);
        return (enum moon_err)fail(tcp, MOON_ENOMEM, "out of memory");
    }
    adopt(tcp, link, 0);
    return MOON_OK;
}

static void on_dial(void *ctx, enum moon_err err, int fd, const char *whyz)
{
    struct moon_tcp *tcp = ctx;
    tcp->dial = NULL;
    if (err == MOON_OK) {
        err = adopt_fd(tcp, tcp->owner->vm->loop, fd);
    } else {
        leave_owner(tcp);
        (void)fail(tcp, err, whyz);
    }
    wake(tcp, MOON_LINK_WRITE, err);
}

/* Both sides are free, else the error. */
static int check_idle(struct moon_tcp *tcp)
{
    if (is_busy(tcp, MOON_LINK_WRITE))
        return fail(tcp, MOON_EDENIED,
                    tcp->dial != NULL ? "socket busy connecting"
                                      : "socket busy writing");
    if (is_busy(tcp, MOON_LINK_READ))
        return fail(tcp, MOON_EDENIED, "socket busy reading");
    return 0;
}

static enum moon_err dial(struct moon_tcp *tcp, struct moon_str host,
                          uint16_t port)
{
    struct moon_task *task = tcp->claims[MOON_LINK_WRITE].task;
    int fd = -1;
    set_owner(tcp, task);
    enum moon_err err =
        moon_dial_start(task->vm->loop, host, port, tcp->timeout_ms[CONNECT],
                        on_dial, tcp, &tcp->dial, &fd, tcp->error);
    if (err == MOON_OK)
        return adopt_fd(tcp, task->vm->loop, fd);
    if (err != MOON_EAGAIN)
        leave_owner(tcp);
    return err;
}

int moon_tcp_connect(moon_tcp *tcp, const char *host, size_t host_len,
                     uint16_t port, const char *pool, size_t pool_len)
{
    int code = check_idle(tcp);
    if (code == 0)
        code = claim_side(tcp, MOON_LINK_WRITE);
    if (code != 0)
        return code;
    shut(tcp);
    tcp->pool_name.len = 0;
    moon_buf_add(&tcp->pool_name, pool, pool_len);
    if (tcp->pool_name.failed) {
        moon_buf_deinit(&tcp->pool_name);
        tcp->claims[MOON_LINK_WRITE].task = NULL;
        return fail(tcp, MOON_ENOMEM, "out of memory");
    }
    uint32_t uses = 0;
    struct moon_link *link = moon_pool_take(moon_str(pool, pool_len), &uses);
    enum moon_err err = MOON_OK;
    if (link != NULL) {
        set_owner(tcp, moon_task_running());
        adopt(tcp, link, uses);
    } else {
        err = dial(tcp, moon_str(host, host_len), port);
    }
    code = settle(tcp, MOON_LINK_WRITE, err, "connect");
    return code == DONE ? outcome(tcp, MOON_LINK_WRITE) : code;
}

int moon_tcp_outcome(moon_tcp *tcp)
{
    return outcome(tcp, MOON_LINK_WRITE);
}

/* ---- sending and receiving ---- */

static int begin(struct moon_tcp *tcp, enum moon_link_side side)
{
    int code = claim_side(tcp, side);
    if (code == 0 && tcp->link == NULL) {
        tcp->claims[side].task = NULL;
        code = fail(tcp, MOON_ECLOSED, "closed");
    }
    return code;
}

static enum moon_err note(struct moon_tcp *tcp, enum moon_err err)
{
    if (err != MOON_OK && err != MOON_EAGAIN)
        (void)fail(tcp, err, moon_link_whyz(tcp->link));
    return err;
}

int moon_tcp_send(moon_tcp *tcp, const char *bytes, size_t len)
{
    int code = begin(tcp, MOON_LINK_WRITE);
    if (code != 0)
        return code;
    enum moon_err err =
        note(tcp, moon_link_send(tcp->link, moon_str(bytes, len),
                                 tcp->timeout_ms[SEND]));
    code = settle(tcp, MOON_LINK_WRITE, err, "tcp send");
    return code == DONE ? outcome(tcp, MOON_LINK_WRITE) : code;
}

static void give(const struct moon_tcp *tcp, moon_bytes *out)
{
    struct moon_str taken =
        tcp->link != NULL ? moon_link_taken(tcp->link) : MOON_STR("");
    *out = (moon_bytes){.ptr = taken.ptr, .len = taken.len};
}

int moon_tcp_received(moon_tcp *tcp, moon_bytes *out)
{
    int code = outcome(tcp, MOON_LINK_READ);
    give(tcp, out);
    return code == DONE && tcp->link != NULL && moon_link_met(tcp->link)
               ? DONE_MET
               : code;
}

int moon_tcp_receive(moon_tcp *tcp, int kind, double size, const char *pattern,
                     size_t len, moon_bytes *out)
{
    *out = (moon_bytes){.ptr = "", .len = 0};
    int code = begin(tcp, MOON_LINK_READ);
    if (code != 0)
        return code;
    struct moon_link_want want = {
        .kind = (enum moon_link_kind)kind,
        .size = size < (double)INT64_MAX ? (size_t)size : SIZE_MAX,
        .pattern = moon_str(pattern, len),
    };
    enum moon_err err = note(
        tcp, moon_link_receive(tcp->link, &want, tcp->timeout_ms[RECEIVE]));
    code = settle(tcp, MOON_LINK_READ, err, "tcp receive");
    return code == DONE ? moon_tcp_received(tcp, out) : code;
}

/* ---- settings, keeping, closing ---- */

static uint64_t milliseconds(double ms, enum timeout which)
{
    if (ms < 0)
        return default_timeout_ms[which];
    return ms < LONGEST_S * 1000.0 ? (uint64_t)ms : LONGEST_S * (uint64_t)1000;
}

void moon_tcp_set_timeouts(moon_tcp *tcp, double connect_ms, double send_ms,
                           double read_ms)
{
    tcp->timeout_ms[CONNECT] = milliseconds(connect_ms, CONNECT);
    tcp->timeout_ms[SEND] = milliseconds(send_ms, SEND);
    tcp->timeout_ms[RECEIVE] = milliseconds(read_ms, RECEIVE);
}

void moon_tcp_set_limit(moon_tcp *tcp, double bytes)
{
    tcp->limit = bytes < (double)INT64_MAX ? (size_t)bytes : SIZE_MAX;
    if (tcp->link != NULL)
        moon_link_set_limit(tcp->link, tcp->limit);
}

int moon_tcp_set_keepalive(moon_tcp *tcp, double idle_ms, uint32_t max)
{
    int code = check_idle(tcp);
    if (code != 0)
        return code;
    if (tcp->link == NULL)
        return fail(tcp, MOON_ECLOSED, "closed");
    if (moon_link_has_unread(tcp->link))
        return fail(tcp, MOON_EDENIED, "unread data in buffer");
    if (!moon_link_is_clean(tcp->link) || !moon_link_is_quiet(tcp->link)) {
        shut(tcp);
        return fail(tcp, MOON_ECLOSED, "closed");
    }
    struct moon_link *link = tcp->link;
    tcp->link = NULL;
    leave_owner(tcp);
    moon_pool_put(
        link, moon_buf_str(&tcp->pool_name), tcp->uses,
        (uint64_t)(idle_ms > 0 ? idle_ms : (double)MOON_POOL_IDLE_MAX_MS), max);
    return 0;
}

int moon_tcp_reused(moon_tcp *tcp)
{
    return tcp->link != NULL ? (int)tcp->uses : -1;
}

int moon_tcp_close(moon_tcp *tcp)
{
    int code = check_idle(tcp);
    if (code == 0 && tcp->link == NULL)
        code = fail(tcp, MOON_ECLOSED, "closed");
    if (code == 0)
        shut(tcp);
    return code;
}
