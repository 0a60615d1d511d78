/* The admin endpoints: a server in the master, on a unix socket in the node's
 * folder unless `admin` says otherwise. It answers with all workers dead.
 *
 * Answers that need others (a reload, what is in flight, what is on disk) are
 * held until those are done; nothing here waits. */
#include "node/admin_text.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BODY_MAX = 64 * 1024,
    DISK_TIMEOUT_MS = 3000,
    REQUESTS_TIMEOUT_MS = 1000,
    HANDED_IDLE_MS = 1000,
};

/* An answer that waits. `x` is NULL once the client has left. */
struct wait {
    struct wait *next;
    struct moon_admin *admin;
    struct moon_exchange *x;
    bool table; /* text rather than JSON */
};

struct moon_admin {
    struct moon_master *master;
    struct moon_server *server;
    struct moon_listener listener;
    struct wait *waits; /* all, for on_gone */

    struct moon_probe disk;
    bool disk_running;
    struct moon_disk_news news;
    struct moon_buf news_text;

    uint64_t requests_txn, requests_until_ms; /* 0: nobody asked */
    uint32_t requests_missing;
    bool answered[MOON_WORKERS_MAX];
    struct moon_buf requests_text;
};

/* ---- answering ---- */

static void respond(struct moon_exchange *x, int status, struct moon_str text,
                    struct moon_str type)
{
    struct moon_out_body body = {
        .bytes = text, .content_type = type, .file_fd = -1};
    x->res.status = (uint16_t)status;
    /* Without memory for the field the answer is still right. */
    enum moon_err err = moon_response_add_static(
        &x->res, &x->arena, MOON_STR("Cache-Control"), MOON_STR("no-store"));
    (void)err;
    (void)x->ops->respond(x, &body);
    x->ops->release(x);
}

static const struct moon_str text_type = {"text/plain; charset=utf-8", 25};
static const struct moon_str json_type = {"application/json", 16};

static bool wants_table(const struct moon_exchange *x)
{
    struct moon_str accept;
    return moon_request_header(&x->req, MOON_STR("accept"), 0, &accept) &&
           moon_str_starts(accept, MOON_STR("text/plain"));
}

/* {"ok":true,"message":...} or {"ok":false,"error":...}, or the line alone. */
static void respond_outcome(struct moon_exchange *x, bool table, int status,
                            struct moon_str text)
{
    struct moon_buf out = {0};
    bool ok = status < 300;
    if (table) {
        moon_buf_add_str(&out, text);
        moon_buf_add_char(&out, '\n');
    } else {
        moon_buf_addz(&out, ok ? "{\"ok\":true,\"message\":"
                               : "{\"ok\":false,\"error\":");
        moon_buf_add_json(&out, text);
        moon_buf_addz(&out, "}\n");
    }
    respond(x, status, moon_buf_str(&out), table ? text_type : json_type);
    moon_buf_deinit(&out);
}

static struct wait *hold(struct moon_admin *admin, struct moon_exchange *x)
{
    struct wait *wait = malloc(sizeof(*wait));
    if (wait == NULL) {
        respond_outcome(x, wants_table(x), 503, MOON_STR("out of memory"));
        return NULL;
    }
    *wait = (struct wait){admin->waits, admin, x, wants_table(x)};
    admin->waits = wait;
    return wait;
}

/* Takes it off the list and frees it; the exchange, or NULL. */
static struct moon_exchange *let_go(struct wait *wait)
{
    struct wait **at = &wait->admin->waits;
    while (*at != wait)
        at = &(*at)->next;
    *at = wait->next;
    struct moon_exchange *x = wait->x;
    free(wait);
    return x;
}

/* ---- reload, rollback ---- */

static void on_reload_done(void *ctx, bool ok, struct moon_str text)
{
    struct wait *wait = ctx;
    bool table = wait->table;
    struct moon_exchange *x = let_go(wait);
    if (x != NULL)
        respond_outcome(x, table, ok ? 200 : 500, text);
}

static void ask_reload(struct moon_admin *admin, struct moon_exchange *x,
                       enum moon_reload_kind kind)
{
    struct wait *wait = hold(admin, x);
    if (wait == NULL)
        return;
    moon_log(MOON_LOG_INFO, "%s asked for on the admin endpoint",
             kind == MOON_RELOAD_ROLLBACK ? "rollback" : "reload");
    moon_reload_request(admin->master, kind, on_reload_done, wait);
}

/* ---- status ---- */

static void answer_status(struct moon_admin *admin, struct moon_exchange *x,
                          bool table)
{
    struct moon_buf out = {0};
    if (table)
        moon_admin_status_table(admin->master, &admin->news, &out);
    else
        moon_admin_status_json(admin->master, &admin->news, &out);
    respond(x, 200, moon_buf_str(&out), table ? text_type : json_type);
    moon_buf_deinit(&out);
}

/* Waiting exchanges are told apart by what they asked for. */
static bool path_is(const struct moon_exchange *x, const char *pathz)
{
    return moon_str_eq(moon_request_str(&x->req, x->req.path),
                       moon_strz(pathz));
}

static void answer_waiting(struct moon_admin *admin, const char *pathz,
                           void (*answer)(struct moon_admin *admin,
                                          struct moon_exchange *x, bool table))
{
    struct wait *next;
    for (struct wait *wait = admin->waits; wait != NULL; wait = next) {
        next = wait->next;
        if (wait->x == NULL || !path_is(wait->x, pathz))
            continue;
        bool table = wait->table;
        struct moon_exchange *x = let_go(wait);
        answer(admin, x, table);
    }
}

static void on_disk_done(void *ctx, struct moon_probe *probe, bool ok)
{
    struct moon_admin *admin = ctx;
    admin->disk_running = false;
    moon_buf_clear(&admin->news_text);
    admin->news.state = MOON_DISK_UNKNOWN;
    if (ok) {
        admin->news.state =
            probe->count != 0 ? MOON_DISK_DIFFERS : MOON_DISK_SAME;
        moon_buf_add_str(&admin->news_text, moon_buf_str(&probe->text));
    }
    admin->news.what = moon_buf_str(&admin->news_text);
    answer_waiting(admin, "/-/status", answer_status);
    moon_master_check_end(admin->master); /* it may have waited for this */
}

/* Reading the application's directory may block, so a child does it. */
static bool start_disk(struct moon_admin *admin)
{
    const struct moon_master *master = admin->master;
    if (admin->disk_running)
        return true;
    if (master->current == NULL || master->state != MOON_MASTER_RUNNING)
        return false;
    struct moon_probe_options options = {
        .mode = MOON_PROBE_DISK,
        .node = master->options,
        .paths = &master->paths,
        .kept_fd = -1,
        .serving = master->current,
    };
    admin->disk.ctx = admin;
    admin->disk.on_done = on_disk_done;
    admin->disk_running =
        moon_probe_start(&admin->disk, &admin->master->loop, &options,
                         DISK_TIMEOUT_MS) == MOON_OK;
    return admin->disk_running;
}

static void ask_status(struct moon_admin *admin, struct moon_exchange *x)
{
    if (!start_disk(admin)) {
        answer_status(admin, x, wants_table(x));
        return;
    }
    (void)hold(admin, x);
}

/* ---- requests ---- */

static void answer_requests(struct moon_admin *admin, struct moon_exchange *x,
                            bool table)
{
    struct moon_buf out = {0};
    struct moon_str lines = moon_buf_str(&admin->requests_text);
    if (table)
        moon_admin_requests_table(lines, &out);
    else
        moon_admin_requests_json(lines, &out);
    respond(x, 200, moon_buf_str(&out), table ? text_type : json_type);
    moon_buf_deinit(&out);
}

static void end_requests(struct moon_admin *admin)
{
    admin->requests_until_ms = 0;
    answer_waiting(admin, "/-/requests", answer_requests);
}

static void ask_requests(struct moon_admin *admin, struct moon_exchange *x)
{
    const struct moon_master *master = admin->master;
    if (hold(admin, x) == NULL || admin->requests_until_ms != 0)
        return;
    admin->requests_txn++;
    admin->requests_until_ms = moon_clock_ms() + REQUESTS_TIMEOUT_MS;
    admin->requests_missing = 0;
    moon_buf_clear(&admin->requests_text);
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        admin->answered[i] = true;
        if (child == NULL || child->state == MOON_CHILD_STARTING ||
            moon_supervise_send(child, MOON_CONTROL_REQUESTS,
                                admin->requests_txn) != MOON_OK)
            continue;
        admin->answered[i] = false;
        admin->requests_missing++;
    }
    if (admin->requests_missing == 0)
        end_requests(admin);
}

void moon_admin_requests_text(struct moon_master *master, uint32_t slot,
                              uint64_t txn, struct moon_str text)
{
    struct moon_admin *admin = master->admin;
    if (admin == NULL || admin->requests_until_ms == 0 ||
        txn != admin->requests_txn || admin->answered[slot])
        return;
    admin->answered[slot] = true;
    moon_buf_add_str(&admin->requests_text, text);
    if (--admin->requests_missing == 0)
        end_requests(admin);
}

void moon_admin_tick(struct moon_master *master)
{
    struct moon_admin *admin = master->admin;
    if (admin == NULL || admin->requests_until_ms == 0 ||
        moon_clock_ms() < admin->requests_until_ms)
        return;
    for (uint32_t i = 0; i < master->place_count; i++)
        if (!admin->answered[i])
            moon_buf_printf(&admin->requests_text,
                            "%u\t0\t0\t-\t-\t-\t-\tthe worker does not answer: "
                            "it is busy or hangs\n",
                            i + 1);
    end_requests(admin);
}

/* ---- the rest ---- */

static void answer_ready(const struct moon_master *master,
                         struct moon_exchange *x)
{
    const char *why = "ready\n";
    int status = 503;
    if (master->state == MOON_MASTER_STARTING)
        why = "starting\n";
    else if (master->state == MOON_MASTER_DRAINING &&
             master->upgrade.phase != MOON_UPGRADE_OVER)
        why = "draining\n";
    else if (master->state == MOON_MASTER_RUNNING &&
             moon_supervise_ready(master, 0) == 0)
        why = "no worker serves\n";
    else if (master->current->generation == 0)
        why = "the code does not load\n";
    else
        status = 200;
    respond(x, status, moon_strz(why), text_type);
}

static void answer_metrics(const struct moon_master *master,
                           struct moon_exchange *x)
{
    struct moon_buf out = {0};
    moon_admin_metrics(master, &out);
    respond(x, 200, moon_buf_str(&out),
            MOON_STR("text/plain; version=0.0.4; charset=utf-8"));
    moon_buf_deinit(&out);
}

static void stop_node(struct moon_admin *admin, struct moon_exchange *x)
{
    respond_outcome(x, wants_table(x), 200,
                    MOON_STR("stopping: finishing what is in flight"));
    moon_master_drain(admin->master, "stop asked for on the admin endpoint");
}

/* Answers, and says false, if it may not. */
static bool may(struct moon_admin *admin, struct moon_exchange *x)
{
    if (admin->listener.address.pathz[0] != '\0')
        return true; /* who may connect is the file's mode */
    const struct moon_release *release = admin->master->current != NULL
                                             ? admin->master->current
                                             : admin->master->fixed;
    switch (moon_admin_guard_check(&admin->master->admin_guard, x,
                                   moon_strz(release->config->admin_tokenz),
                                   moon_clock_ms())) {
    case MOON_ADMIN_ALLOWED:
        return true;
    case MOON_ADMIN_WRONG:
        respond_outcome(x, wants_table(x), 401,
                        MOON_STR("admin_token is missing or wrong"));
        return false;
    case MOON_ADMIN_TOO_MANY:
        if (moon_response_add_static(&x->res, &x->arena,
                                     MOON_STR("Retry-After"),
                                     MOON_STR("1")) != MOON_OK)
            moon_log(MOON_LOG_DEBUG, "no memory for Retry-After");
        respond_outcome(x, wants_table(x), 429,
                        MOON_STR("too many wrong tokens: wait a second"));
        return false;
    }
    return false;
}

static void handle_get(struct moon_admin *admin, struct moon_exchange *x)
{
    if (path_is(x, "/-/status"))
        ask_status(admin, x);
    else if (path_is(x, "/-/requests"))
        ask_requests(admin, x);
    else if (path_is(x, "/-/metrics"))
        answer_metrics(admin->master, x);
    else if (path_is(x, "/-/reload") || path_is(x, "/-/rollback") ||
             path_is(x, "/-/stop"))
        respond_outcome(x, wants_table(x), 405, MOON_STR("use POST"));
    else
        respond_outcome(x, wants_table(x), 404, MOON_STR("no such endpoint"));
}

static void on_run(void *ctx, struct moon_exchange *x)
{
    struct moon_admin *admin = ctx;
    bool get =
        x->req.method == MOON_METHOD_GET || x->req.method == MOON_METHOD_HEAD;
    if (get && path_is(x, "/-/live"))
        respond(x, 200, MOON_STR("live\n"), text_type);
    else if (get && path_is(x, "/-/ready"))
        answer_ready(admin->master, x);
    else if (!may(admin, x))
        return;
    else if (get)
        handle_get(admin, x);
    else if (x->req.method != MOON_METHOD_POST)
        respond_outcome(x, wants_table(x), 405, MOON_STR("use GET or POST"));
    else if (path_is(x, "/-/reload"))
        ask_reload(admin, x, MOON_RELOAD_DISK);
    else if (path_is(x, "/-/rollback"))
        ask_reload(admin, x, MOON_RELOAD_ROLLBACK);
    else if (path_is(x, "/-/stop"))
        stop_node(admin, x);
    else
        respond_outcome(x, wants_table(x), 404, MOON_STR("no such endpoint"));
}

static void on_head(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    x->body.mode = MOON_BODY_BUFFER;
    x->body.limit_bytes = BODY_MAX;
}

static void on_gone(void *ctx, struct moon_exchange *x)
{
    struct moon_admin *admin = ctx;
    for (struct wait *wait = admin->waits; wait != NULL; wait = wait->next)
        if (wait->x == x) {
            wait->x = NULL; /* the reload goes on; its answer is dropped */
            x->ops->release(x);
            return;
        }
}

static void on_nothing(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    (void)x;
}

static void on_bad_request(void *ctx, struct moon_exchange *x, int status,
                           const char *why)
{
    (void)ctx;
    struct moon_out_body body = {.bytes = moon_strz(why != NULL ? why : ""),
                                 .content_type = text_type,
                                 .file_fd = -1};
    x->res.status = (uint16_t)status;
    (void)x->ops->respond(x, &body);
}

/* ---- opening and closing ---- */

static void make_handler(struct moon_admin *admin, struct moon_handler *out)
{
    *out = (struct moon_handler){
        .ctx = admin,
        .on_head = on_head,
        .on_run = on_run,
        .on_readable = on_nothing,
        .on_writable = on_nothing,
        .on_sent = on_nothing,
        .on_gone = on_gone,
        .on_timeout = on_nothing,
        .on_end = on_nothing,
        .on_bad_request = on_bad_request,
    };
}

enum moon_err moon_admin_open(struct moon_master *master,
                              struct moon_buf *error)
{
    struct moon_admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL)
        return MOON_ENOMEM;
    admin->master = master;
    admin->listener.fd = -1;
    master->admin = admin;
    if (!moon_master_open_admin(master, &admin->listener, error))
        return MOON_EINVAL;
    struct moon_handler handler;
    make_handler(admin, &handler);
    struct moon_server_config config = {
        .limits = {.request_line_bytes = 8192,
                   .header_bytes = 32768,
                   .header_count = 100},
        .header_timeout_ms = 10000,
        .body_timeout_ms = 10000,
        .write_timeout_ms = 10000,
        .keepalive_timeout_ms = 75000,
        .body_buffer_bytes = BODY_MAX,
        .body_memory_bytes = 4 * BODY_MAX,
        .output_memory_bytes = UINT64_MAX,
        .max_connections = 256,
        .temp_dirz = "/tmp",
    };
    admin->server = moon_server_create(&master->loop, &handler, &config);
    if (admin->server == NULL)
        return MOON_ENOMEM;
    return master->takeover.pending
               ? MOON_OK
               : moon_server_listen(admin->server, admin->listener.fd, false);
}

void moon_admin_begin(struct moon_master *master)
{
    struct moon_admin *admin = master->admin;
    admin->listener.borrowed = false;
    enum moon_err err =
        moon_server_listen(admin->server, admin->listener.fd, false);
    if (err != MOON_OK)
        moon_log(MOON_LOG_ERROR, "no admin endpoints: %s", moon_err_text(err));
}

void moon_admin_hand_over(struct moon_master *master)
{
    struct moon_admin *admin = master->admin;
    admin->listener.passed = true;
    moon_server_stop_accepting(admin->server);
    moon_server_drain(admin->server, HANDED_IDLE_MS);
}

const struct moon_listener *moon_admin_listener(
    const struct moon_master *master)
{
    return master->admin != NULL ? &master->admin->listener : NULL;
}

bool moon_admin_is_busy(struct moon_master *master)
{
    if (master->admin == NULL || !master->admin->disk_running)
        return false;
    moon_probe_kill(&master->admin->disk);
    return true;
}

bool moon_admin_reaped(struct moon_master *master, pid_t pid, int status)
{
    return master->admin != NULL &&
           moon_probe_reaped(&master->admin->disk, pid, status);
}

static void on_server_closed(void *ctx)
{
    struct moon_admin *admin = ctx;
    moon_buf_deinit(&admin->news_text);
    moon_buf_deinit(&admin->requests_text);
    moon_probe_deinit(&admin->disk);
    free(admin);
}

void moon_admin_close(struct moon_master *master)
{
    struct moon_admin *admin = master->admin;
    if (admin == NULL)
        return;
    master->admin = NULL;
    const struct moon_listener *l = &admin->listener;
    if (l->fd >= 0 && l->address.pathz[0] != '\0' && !l->managed &&
        !l->borrowed && !l->passed)
        (void)unlink(l->address.pathz);
    if (admin->server == NULL) {
        if (l->fd >= 0)
            (void)close(l->fd);
        on_server_closed(admin);
        return;
    }
    struct wait *next;
    for (struct wait *wait = admin->waits; wait != NULL; wait = next) {
        next = wait->next;
        if (wait->x != NULL)
            respond_outcome(wait->x, true, 503,
                            MOON_STR("the node has stopped"));
        free(wait);
    }
    admin->waits = NULL;
    moon_server_stop_accepting(admin->server);
    (void)close(l->fd);
    moon_server_close_all(admin->server);
    moon_server_destroy(admin->server, on_server_closed, admin);
}
