#include "state/redis_link.h"

#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum step { AUTH, SELECT, SETNAME, ROLE, PING, STEPS };

struct moon_redis_link {
    struct moon_wire *wire;
    enum moon_redis_role role;
    struct moon_redis_link_owner owner;
    bool ready, down;
    bool stillborn; /* its owner never got it */
    uint32_t db;
    uint8_t steps[STEPS]; /* enum step, in the order they were sent */
    uint32_t step_count, answered;
};

/* ---- the end ---- */

static void go_down(struct moon_redis_link *link, enum moon_err err,
                    const char *whyz)
{
    if (link->down)
        return;
    link->down = true;
    link->owner.on_down(link->owner.ctx, err, whyz);
}

static void on_wire_down(void *ctx, enum moon_err err, const char *whyz)
{
    go_down(ctx, err, whyz);
}

static bool on_wire_push(void *ctx, const void *reply)
{
    struct moon_redis_link *link = ctx;
    return link->ready && link->owner.on_push(link->owner.ctx, reply);
}

static void on_wire_gone(void *ctx)
{
    struct moon_redis_link *link = ctx;
    struct moon_redis_link_owner owner = link->owner;
    bool stillborn = link->stillborn;
    free(link);
    if (!stillborn)
        owner.on_gone(owner.ctx);
}

void moon_redis_link_destroy(struct moon_redis_link *link)
{
    link->down = true;
    moon_wire_destroy(link->wire);
}

bool moon_redis_link_is_ready(const struct moon_redis_link *link)
{
    return link->ready && !link->down;
}

struct moon_wire *moon_redis_link_wire(const struct moon_redis_link *link)
{
    return link->wire;
}

enum moon_err moon_redis_link_send(struct moon_redis_link *link,
                                   const struct moon_str *argv, uint32_t argc,
                                   uint64_t timeout_ms, moon_wire_done *done,
                                   void *ctx, uint64_t *ticket)
{
    struct moon_buf bytes = {0};
    uint64_t own;
    moon_redis_add_command(&bytes, argv, argc);
    enum moon_err err =
        bytes.failed
            ? MOON_ENOMEM
            : moon_wire_send(link->wire, moon_buf_str(&bytes), 1, timeout_ms,
                             done, ctx, ticket != NULL ? ticket : &own);
    moon_buf_deinit(&bytes);
    return err;
}

/* ---- the handshake ---- */

static void refuse(struct moon_redis_link *link, enum moon_err err,
                   const char *whatz, const struct redisReply *reply)
{
    char why[MOON_REDIS_WHY];
    struct moon_str text = moon_redis_text(reply);
    (void)snprintf(why, sizeof(why), "%s%s%.*s", whatz,
                   whatz[0] != '\0' && text.len > 0 ? ": " : "",
                   text.len > 120 ? 120 : (int)text.len, text.ptr);
    go_down(link, err, why);
}

/* Not allowed to ask is not "no". */
static bool may_not_ask(const struct redisReply *reply)
{
    return moon_redis_is_error_of(reply, "NOPERM");
}

static bool judge_role(struct moon_redis_link *link,
                       const struct redisReply *reply)
{
    const struct redisReply *role = moon_redis_item(reply, 0);
    if (may_not_ask(reply) ||
        moon_str_eq(moon_redis_text(role), MOON_STR("master")))
        return true;
    refuse(link, MOON_EAGAIN, "not a master",
           moon_redis_is_error(reply) ? reply : role);
    return false;
}

static bool judge_select(struct moon_redis_link *link,
                         const struct redisReply *reply)
{
    char what[48];
    if (!moon_redis_is_error(reply))
        return true;
    (void)snprintf(what, sizeof(what), "cannot use database %u", link->db);
    refuse(link, MOON_EDENIED, what, reply);
    return false;
}

/* What a server says before it reads a command, and then closes. */
static bool turns_away(const struct redisReply *reply)
{
    return moon_redis_is_error_of(reply, "DENIED") ||
           (moon_redis_is_error(reply) &&
            moon_str_starts(moon_redis_text(reply), MOON_STR("ERR max number "
                                                             "of clients")));
}

static bool judge(struct moon_redis_link *link, enum step step,
                  const struct redisReply *reply)
{
    if (turns_away(reply)) {
        refuse(link, MOON_EAGAIN, "", reply);
        return false;
    }
    if (moon_redis_is_error_of(reply, "NOAUTH") && step != SETNAME) {
        refuse(link, MOON_EDENIED, "a password is needed", reply);
        return false;
    }
    switch (step) {
    case AUTH:
        if (!moon_redis_is_error(reply) || link->role == MOON_REDIS_ASK)
            return true;
        refuse(link, MOON_EDENIED, "the password is refused", reply);
        return false;
    case SELECT:
        return judge_select(link, reply);
    case ROLE:
        return judge_role(link, reply);
    case PING:
        if (!moon_redis_is_error(reply) || may_not_ask(reply))
            return true;
        refuse(link, MOON_EAGAIN, "", reply);
        return false;
    default:
        return true; /* a name is for people only */
    }
}

static void on_answer(void *ctx, struct moon_wire_result *result)
{
    struct moon_redis_link *link = ctx;
    static const char *const names[STEPS] = {"AUTH", "SELECT", "CLIENT SETNAME",
                                             "ROLE", "PING"};
    if (link->down)
        return;
    enum step step = link->steps[link->answered++];
    if (result->err != MOON_OK) {
        char why[MOON_REDIS_WHY];
        (void)snprintf(why, sizeof(why), "%s at %s", result->whyz, names[step]);
        go_down(link, result->err, why);
        return;
    }
    if (!judge(link, step, result->reply) || link->answered < link->step_count)
        return;
    link->ready = true;
    link->owner.on_ready(link->owner.ctx);
}

static void add_step(struct moon_redis_link *link, struct moon_buf *to,
                     enum step step, const struct moon_str *argv, uint32_t argc)
{
    moon_redis_add_command(to, argv, argc);
    link->steps[link->step_count++] = (uint8_t)step;
}

static void add_name(struct moon_redis_link *link, struct moon_buf *to,
                     const char *namez)
{
    struct moon_buf name = {0};
    for (const char *at = namez; *at != '\0'; at++)
        moon_buf_add_char(&name, *at > ' ' && *at < 0x7f ? *at : '-');
    if (!name.failed)
        add_step(link, to, SETNAME,
                 (struct moon_str[]){MOON_STR("CLIENT"), MOON_STR("SETNAME"),
                                     moon_buf_str(&name)},
                 3);
    moon_buf_deinit(&name);
}

static void add_steps(struct moon_redis_link *link, struct moon_buf *to,
                      const struct moon_redis_link_options *o)
{
    struct moon_str user = moon_strz(o->url->userz);
    struct moon_str password = moon_strz(o->url->passwordz);
    char db[12];
    if (password.len > 0 && user.len > 0)
        add_step(link, to, AUTH,
                 (struct moon_str[]){MOON_STR("AUTH"), user, password}, 3);
    else if (password.len > 0)
        add_step(link, to, AUTH,
                 (struct moon_str[]){MOON_STR("AUTH"), password}, 2);
    if (o->url->db > 0 && o->role != MOON_REDIS_ASK) {
        (void)snprintf(db, sizeof(db), "%u", o->url->db);
        add_step(link, to, SELECT,
                 (struct moon_str[]){MOON_STR("SELECT"), moon_strz(db)}, 2);
    }
    if (o->namez != NULL && o->namez[0] != '\0')
        add_name(link, to, o->namez);
    if (o->role == MOON_REDIS_MASTER)
        add_step(link, to, ROLE, &MOON_STR("ROLE"), 1);
    add_step(link, to, PING, &MOON_STR("PING"), 1);
}

/* ---- life ---- */

static enum moon_err start(struct moon_redis_link *link,
                           const struct moon_redis_link_options *o)
{
    struct moon_buf hello = {0};
    uint64_t ticket;
    add_steps(link, &hello, o);
    enum moon_err err =
        hello.failed
            ? MOON_ENOMEM
            : moon_wire_send(link->wire, moon_buf_str(&hello), link->step_count,
                             o->connect_timeout_ms, on_answer, link, &ticket);
    moon_buf_deinit(&hello);
    return err;
}

struct moon_redis_link *moon_redis_link_create(
    uv_loop_t *loop, const char *hostz, uint16_t port,
    const struct moon_redis_link_options *options)
{
    struct moon_redis_link *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return NULL;
    link->role = options->role;
    link->owner = options->owner;
    link->db = options->url->db;
    struct moon_wire_options wire = {
        .host = moon_strz(hostz),
        .port = port,
        .connect_timeout_ms = options->connect_timeout_ms,
        .patience_ms = options->patience_ms,
        .max_pending = options->max_pending,
        .max_out_bytes = options->max_out_bytes,
        .max_reply_bytes = options->max_reply_bytes,
        .codec = &moon_redis_codec,
        .owner = {link, on_wire_down,
                  options->owner.on_push != NULL ? on_wire_push : NULL,
                  on_wire_gone},
    };
    link->wire = moon_wire_create(loop, &wire);
    if (link->wire == NULL) {
        free(link);
        return NULL;
    }
    if (start(link, options) != MOON_OK) {
        link->stillborn = true;
        moon_redis_link_destroy(link);
        return NULL;
    }
    return link;
}
