#include "state/memcached_job.h"

#include "base/clock.h"

#include <sodium.h>
#include <stdlib.h>

/* Longer than this, memcached takes an exptime for a time of the day. */
enum { RELATIVE_MAX_S = 60 * 60 * 24 * 30 };

static void on_gone(struct moon_session_call *call)
{
    struct moon_memcached_job *job = (struct moon_memcached_job *)call;
    moon_buf_deinit(&job->record);
    moon_buf_deinit(&job->request);
    free(job->change);
    moon_memcached_sessions_unref(job->store);
    free(job);
}

struct moon_memcached_job *moon_memcached_job_begin(
    struct moon_session_store *store, struct moon_session_op *op,
    const struct moon_session_key *from,
    const struct moon_session_change *change)
{
    struct moon_memcached_job *job = calloc(1, sizeof(*job));
    if (job != NULL && change != NULL) {
        job->change = moon_session_change_copy(change);
        if (job->change == NULL) {
            free(job);
            job = NULL;
        }
    }
    moon_session_call_begin(job == NULL ? NULL : &job->call, op, on_gone);
    if (job == NULL)
        return NULL;
    job->store = (struct moon_memcached_sessions *)store;
    job->store->refs++;
    job->from = from;
    return job;
}

/* ---- asking ---- */

/* "SERVER_ERROR object too large for cache" */
static void refuse(struct moon_memcached_job *job, struct moon_str line)
{
    struct moon_str what;
    (void)moon_str_cut(line, ' ', &what);
    bool large = moon_str_starts(what, MOON_STR("object too large"));
    moon_session_call_end(&job->call, large ? MOON_ETOO_BIG : MOON_EPROTO,
                          line);
}

static void on_reply(void *ctx, enum moon_err err,
                     const struct moon_memcached_reply *reply, const char *whyz)
{
    struct moon_memcached_job *job = ctx;
    job->call.waiting--;
    if (err != MOON_OK)
        moon_session_call_end(&job->call, err, moon_strz(whyz));
    else if (reply->status == MOON_MEMCACHED_ERROR)
        refuse(job, reply->value);
    else if (job->call.op != NULL)
        job->step(job, reply);
    moon_session_call_rest(&job->call);
}

/* Rendezvous hashing: the server whose name and the key make the most. */
static struct moon_memcached *server_of(
    const struct moon_memcached_sessions *store,
    const struct moon_session_key *key)
{
    struct moon_memcached *best = store->servers[0];
    uint64_t most = 0;
    for (uint32_t i = 0; i < store->count && store->count > 1; i++) {
        struct moon_str name = moon_memcached_name(store->servers[i]);
        uint64_t score;
        (void)crypto_shorthash((unsigned char *)&score,
                               (const unsigned char *)name.ptr, name.len,
                               key->bytes);
        if (i > 0 && score <= most)
            continue;
        most = score;
        best = store->servers[i];
    }
    return best;
}

static void ask(struct moon_memcached_job *job,
                const struct moon_session_key *key, moon_memcached_step *step)
{
    struct moon_memcached *server = server_of(job->store, key);
    uint64_t left = moon_session_call_left(&job->call);
    enum moon_err err = MOON_ETIMEOUT;
    job->step = step;
    if (job->request.failed || job->record.failed)
        err = MOON_ENOMEM;
    else if (left > 0)
        err = moon_memcached_send(server, moon_buf_str(&job->request), left,
                                  on_reply, job);
    if (err == MOON_OK) {
        job->call.waiting++;
        return;
    }
    const char *whyz = NULL;
    if (err == MOON_ECLOSED)
        whyz = moon_memcached_down(server);
    else if (err == MOON_ETIMEOUT)
        whyz = MOON_SESSION_NO_TIME;
    moon_session_call_end(&job->call, err, moon_strz(whyz == NULL ? "" : whyz));
}

/* ---- requests ---- */

static void begin_request(struct moon_memcached_job *job, const char *commandz,
                          const struct moon_session_key *key)
{
    char hex[MOON_SESSION_KEY * 2 + 1];
    (void)sodium_bin2hex(hex, sizeof(hex), key->bytes, sizeof(key->bytes));
    job->request.len = 0;
    moon_buf_printf(&job->request, "%s moon:s:%s", commandz, hex);
}

void moon_memcached_read(struct moon_memcached_job *job,
                         const struct moon_session_key *key,
                         moon_memcached_step *step)
{
    begin_request(job, "mg", key);
    moon_buf_addz(&job->request, " v c\r\n");
    ask(job, key, step);
}

void moon_memcached_write(struct moon_memcached_job *job,
                          const struct moon_session_key *key,
                          enum moon_memcached_mode mode, uint64_t exptime,
                          moon_memcached_step *step)
{
    struct moon_buf *to = &job->request;
    begin_request(job, "ms", key);
    moon_buf_printf(to, " %zu T%llu", job->record.len,
                    (unsigned long long)exptime);
    if (mode == MOON_MEMCACHED_ADD)
        moon_buf_addz(to, " ME");
    else if (mode == MOON_MEMCACHED_IF_SAME)
        moon_buf_printf(to, " C%llu", (unsigned long long)job->cas);
    moon_buf_addz(to, "\r\n");
    moon_buf_add_str(to, moon_buf_str(&job->record));
    moon_buf_addz(to, "\r\n");
    ask(job, key, step);
}

void moon_memcached_delete(struct moon_memcached_job *job,
                           const struct moon_session_key *key, bool if_same,
                           moon_memcached_step *step)
{
    begin_request(job, "md", key);
    if (if_same)
        moon_buf_printf(&job->request, " C%llu", (unsigned long long)job->cas);
    moon_buf_addz(&job->request, "\r\n");
    ask(job, key, step);
}

uint64_t moon_memcached_exptime(const struct moon_session_view *view,
                                int64_t now_ms)
{
    int64_t deadline = moon_session_view_deadline(view);
    if (deadline == MOON_SESSION_NEVER)
        return 0;
    int64_t left_s = deadline > now_ms ? (deadline - now_ms) / 1000 + 1 : 1;
    if (left_s > RELATIVE_MAX_S)
        left_s += (int64_t)moon_clock_wall();
    return (uint64_t)left_s;
}
