#include "state/redis_internal.h"

#include "state/redis_node.h"
#include "state/redis_proto.h"

#include <stdio.h>
#include <stdlib.h>

enum { IDLE_MAX = 8, IDLE_MS = 30000 };

enum state {
    WAITING, /* for a node that is up */
    OPENING,
    FOUND, /* was idle; its callback comes next */
    READY,
    IDLE, /* the client has it, clean or still proving that */
    DEAD,
};

/* Its holder and its link both: freed when both have let go. */
struct moon_redis_own {
    struct moon_chain chain; /* one of the client's rings, by state */
    struct moon_redis *redis;
    struct moon_redis_link *link;       /* NULL: none, or gone */
    const struct moon_redis_node *node; /* to which it leads, to compare;
                                           NULL: that one moved or is gone */
    enum state state;
    bool held;      /* by its caller */
    bool destroyed; /* the link */
    int slot;
    uint32_t proofs; /* idle: how many replies are to come that it is clean */
    uint64_t due_ms; /* waiting: its deadline; idle: closed then */
    moon_redis_own_ready *ready;
    void *ctx;
};

static void arm(struct moon_redis *redis);

/* ---- the end ---- */

static void free_own(struct moon_redis_own *own)
{
    if (!own->held && own->link == NULL)
        free(own);
}

static void let_go_of_link(struct moon_redis_own *own)
{
    if (own->link != NULL && !own->destroyed)
        moon_redis_link_destroy(own->link);
    own->destroyed = true;
}

static void on_gone(void *ctx)
{
    struct moon_redis_own *own = ctx;
    struct moon_redis *redis = own->redis;
    own->link = NULL;
    free_own(own);
    moon_redis_link_gone(redis);
}

/* An idle one is of no use any more; frees it with its link. */
static void discard(struct moon_redis_own *own)
{
    moon_chain_remove(&own->chain);
    own->state = DEAD;
    let_go_of_link(own);
}

/* From the loop: what was asked for is there, or will never be. */
static void answer(struct moon_redis_own *own, enum moon_err err,
                   const char *whyz)
{
    moon_chain_remove(&own->chain);
    moon_chain_add(&own->redis->owns_used, &own->chain);
    own->state = err == MOON_OK ? READY : DEAD;
    if (err != MOON_OK)
        let_go_of_link(own);
    own->ready(own->ctx, err, whyz);
}

/* ---- links ---- */

static void on_ready(void *ctx)
{
    struct moon_redis_own *own = ctx;
    if (own->state == OPENING)
        answer(own, MOON_OK, "");
}

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct moon_redis_own *own = ctx;
    (void)err;
    if (own->state == OPENING) {
        char why[MOON_REDIS_WHY];
        (void)snprintf(why, sizeof(why), "redis is down: %.120s", whyz);
        answer(own, MOON_ECLOSED, why);
    } else if (own->state == READY) {
        own->state = DEAD;
        let_go_of_link(own);
    } else {
        discard(own);
    }
}

static enum moon_err open_link(struct moon_redis_own *own,
                               const struct moon_redis_node *node)
{
    struct moon_redis *redis = own->redis;
    const struct moon_redis_link_owner owner = {own, on_ready, on_down, NULL,
                                                on_gone};
    enum moon_redis_role role =
        redis->sentinel != NULL ? MOON_REDIS_MASTER : MOON_REDIS_ANY;
    own->node = node;
    own->state = OPENING;
    own->link = moon_redis_open_link(redis, node->hostz, node->port, role,
                                     redis->o.connect_timeout_ms, &owner);
    return own->link != NULL ? MOON_OK
                             : moon_redis_refuse(MOON_ENOMEM, "%s",
                                                 moon_err_text(MOON_ENOMEM));
}

/* ---- taking ---- */

static struct moon_redis_own *find_idle(struct moon_redis *redis,
                                        const struct moon_redis_node *node)
{
    for (struct moon_chain *i = redis->owns_idle.prev; i != &redis->owns_idle;
         i = i->prev) {
        struct moon_redis_own *own =
            MOON_CONTAINER(i, struct moon_redis_own, chain);
        if (own->node == node && own->proofs == 0)
            return own;
    }
    return NULL;
}

/* One that is idle, or a new one that is opened or waits for its node. */
static enum moon_err begin(struct moon_redis *redis, int slot,
                           struct moon_redis_own **out)
{
    struct moon_redis_node *node;
    enum moon_err err = moon_redis_route(redis, slot, &node);
    if (err != MOON_OK && err != MOON_EAGAIN)
        return err;
    struct moon_redis_own *own = err == MOON_OK ? find_idle(redis, node) : NULL;
    if (own != NULL) {
        moon_chain_remove(&own->chain);
        own->state = FOUND;
        *out = own;
        return MOON_OK;
    }
    own = calloc(1, sizeof(*own));
    if (own == NULL)
        return moon_redis_refuse(MOON_ENOMEM, "%s", moon_err_text(MOON_ENOMEM));
    own->redis = redis;
    if (err == MOON_OK && open_link(own, node) != MOON_OK) {
        free(own);
        return MOON_ENOMEM;
    }
    *out = own;
    return MOON_OK;
}

enum moon_err moon_redis_own_take(struct moon_redis *redis, struct moon_str key,
                                  uint64_t timeout_ms,
                                  moon_redis_own_ready *ready, void *ctx,
                                  struct moon_redis_own **out)
{
    struct moon_str argv[2] = {MOON_STR_NONE, key};
    const struct moon_redis_command command = {argv, 2, key.ptr != NULL};
    int slot;
    if (redis->closed)
        return moon_redis_refuse(MOON_ECLOSED, "the client is closed");
    if (redis->own_count >= redis->o.max_own)
        return moon_redis_refuse(MOON_EFULL,
                                 "all %u links of one's own are in use",
                                 redis->o.max_own);
    enum moon_err err = moon_redis_find_slot(redis, &command, 1, &slot);
    if (err == MOON_OK)
        err = begin(redis, slot, out);
    if (err != MOON_OK)
        return err;
    struct moon_redis_own *own = *out;
    own->held = true;
    own->slot = slot;
    own->ready = ready;
    own->ctx = ctx;
    uv_update_time(redis->loop);
    own->due_ms = moon_redis_later(
        redis, timeout_ms != 0 ? timeout_ms : redis->o.timeout_ms);
    moon_chain_add(&redis->owns_waiting, &own->chain);
    redis->own_count++;
    redis->held++;
    arm(redis);
    return MOON_OK;
}

/* From the loop. */
static void try_again(struct moon_redis_own *own)
{
    struct moon_redis_node *node;
    enum moon_err err = moon_redis_route(own->redis, own->slot, &node);
    if (err == MOON_OK)
        err = open_link(own, node);
    if (err != MOON_OK && err != MOON_EAGAIN)
        answer(own, err, moon_redis_whyz());
}

/* From the loop: looks at each of a ring once; a callback may close any. */
static void look_at(struct moon_redis *redis, struct moon_chain *ring,
                    void (*look)(struct moon_redis_own *own))
{
    struct moon_chain list;
    moon_chain_init(&list);
    moon_chain_move(ring, &list);
    for (struct moon_chain *at; (at = moon_chain_take(&list)) != NULL;) {
        moon_chain_add(ring, at);
        look(MOON_CONTAINER(at, struct moon_redis_own, chain));
    }
    arm(redis);
}

static void look_changed(struct moon_redis_own *own)
{
    if (own->state == WAITING)
        try_again(own);
}

void moon_redis_own_changed(struct moon_redis *redis)
{
    look_at(redis, &redis->owns_waiting, look_changed);
}

/* ---- time ---- */

static void look_waiting(struct moon_redis_own *own)
{
    if (own->redis->closed)
        answer(own, MOON_ECLOSED, "the client is closed");
    else if (own->state == FOUND)
        answer(own, MOON_OK, "");
    else if (own->due_ms <= uv_now(own->redis->loop))
        answer(own, MOON_ETIMEOUT, "timeout");
}

static void look_idle(struct moon_redis_own *own)
{
    if (own->redis->closed || own->due_ms <= uv_now(own->redis->loop))
        discard(own);
}

static void on_alarm(struct moon_alarm *alarm)
{
    struct moon_redis *redis =
        MOON_CONTAINER(alarm, struct moon_redis, own_alarm);
    look_at(redis, &redis->owns_waiting, look_waiting);
    look_at(redis, &redis->owns_idle, look_idle);
}

static uint64_t first_due(const struct moon_chain *ring, uint64_t first)
{
    for (const struct moon_chain *i = ring->next; i != ring; i = i->next) {
        const struct moon_redis_own *own =
            (const struct moon_redis_own *)MOON_CONTAINER(
                i, struct moon_redis_own, chain);
        uint64_t due = own->state == FOUND ? 0 : own->due_ms;
        if (due < first)
            first = due;
    }
    return first;
}

static void arm(struct moon_redis *redis)
{
    uint64_t now = uv_now(redis->loop);
    uint64_t first = first_due(&redis->owns_waiting, UINT64_MAX);
    first = first_due(&redis->owns_idle, first);
    if (first == UINT64_MAX)
        moon_alarm_clear(&redis->own_alarm);
    else
        moon_alarm_set(&redis->alarms, &redis->own_alarm,
                       first > now ? first - now : 0, on_alarm);
    moon_redis_hold_loop(redis);
}

/* ---- using and giving back ---- */

enum moon_err moon_redis_own_send(struct moon_redis_own *own,
                                  const struct moon_redis_command *commands,
                                  uint32_t count,
                                  const struct moon_redis_how *how,
                                  struct moon_redis_op **out)
{
    if (own->state != READY)
        return moon_redis_refuse(MOON_ECLOSED, own->state == DEAD
                                                   ? "the link is closed"
                                                   : "the link is not ready");
    const struct moon_redis_start start = {
        .redis = own->redis,
        .commands = commands,
        .count = count,
        .slot = -1,
        .own = moon_redis_link_wire(own->link),
    };
    return moon_redis_op_start(&start, how, out);
}

static void on_proof(void *ctx, struct moon_wire_result *result)
{
    struct moon_redis_own *own = ctx;
    if (result->err != MOON_OK)
        return; /* told by on_down */
    own->proofs--;
    if (own->state == IDLE &&
        !moon_str_eq(moon_redis_text(result->reply), MOON_STR("OK")))
        discard(own);
}

/* Out of WATCH; inside of MULTI the answer is QUEUED, and it is closed. */
static bool ask_for_proof(struct moon_redis_own *own)
{
    struct moon_buf bytes = {0};
    char db[12];
    uint64_t ticket;
    (void)snprintf(db, sizeof(db), "%u", own->redis->url->db);
    moon_redis_add_command(&bytes, &MOON_STR("UNWATCH"), 1);
    moon_redis_add_command(
        &bytes, (struct moon_str[]){MOON_STR("SELECT"), moon_strz(db)}, 2);
    bool sent =
        !bytes.failed &&
        moon_wire_send(moon_redis_link_wire(own->link), moon_buf_str(&bytes), 2,
                       own->redis->o.timeout_ms, on_proof, own,
                       &ticket) == MOON_OK;
    moon_buf_deinit(&bytes);
    own->proofs = sent ? 2 : 0;
    return sent;
}

static uint32_t count(const struct moon_chain *ring)
{
    uint32_t n = 0;
    for (const struct moon_chain *i = ring->next; i != ring; i = i->next)
        n++;
    return n;
}

static void part(struct moon_redis_own *own)
{
    moon_chain_remove(&own->chain);
    own->held = false;
    own->redis->own_count--;
    own->redis->held--;
}

void moon_redis_own_give(struct moon_redis_own *own)
{
    struct moon_redis *redis = own->redis;
    if (own->state != READY || redis->closed || own->node == NULL ||
        moon_wire_pending(moon_redis_link_wire(own->link)) > 0 ||
        count(&redis->owns_idle) >= IDLE_MAX || !ask_for_proof(own)) {
        moon_redis_own_close(own);
        return;
    }
    part(own);
    own->state = IDLE;
    own->due_ms = uv_now(redis->loop) + IDLE_MS;
    moon_chain_add(&redis->owns_idle, &own->chain);
    arm(redis);
}

void moon_redis_own_close(struct moon_redis_own *own)
{
    struct moon_redis *redis = own->redis;
    part(own);
    own->state = DEAD;
    let_go_of_link(own);
    free_own(own);
    moon_redis_settle(redis);
}

/* Idle links to the node go; those in use are not kept when they come back. */
void moon_redis_own_leave(struct moon_redis *redis,
                          const struct moon_redis_node *node)
{
    struct moon_chain *const rings[] = {&redis->owns_idle, &redis->owns_waiting,
                                        &redis->owns_used};
    for (size_t k = 0; k < MOON_COUNT(rings); k++) {
        struct moon_chain *next;
        for (struct moon_chain *i = rings[k]->next; i != rings[k]; i = next) {
            struct moon_redis_own *own =
                MOON_CONTAINER(i, struct moon_redis_own, chain);
            next = i->next;
            if (own->node != node)
                continue;
            own->node = NULL;
            if (own->state == IDLE)
                discard(own);
        }
    }
}

void moon_redis_own_close_all(struct moon_redis *redis)
{
    for (struct moon_chain *i = redis->owns_used.next; i != &redis->owns_used;
         i = i->next) {
        struct moon_redis_own *own =
            MOON_CONTAINER(i, struct moon_redis_own, chain);
        own->state = DEAD;
        let_go_of_link(own);
    }
    moon_alarm_set(&redis->alarms, &redis->own_alarm, 0, on_alarm);
}
