#include "state/redis_sessions_internal.h"

#include "base/digits.h"
#include "state/redis_proto.h"

#include <sodium.h>
#include <stdlib.h>

/* ---- names and numbers ---- */

static char *put(char *to, struct moon_str text)
{
    memcpy(to, text.ptr, text.len);
    return to + text.len;
}

/* "moon:s:{HH}:HH..." */
struct moon_str moon_redis_session_name(struct moon_redis_session_name *name,
                                        const struct moon_session_key *key)
{
    char *to = put(name->text, MOON_STR("moon:s:{"));
    to = moon_put_hex(to, key->bytes, 1);
    to = put(to, MOON_STR("}:"));
    to = moon_put_hex(to, key->bytes, sizeof(key->bytes));
    return moon_str(name->text, (size_t)(to - name->text));
}

struct moon_str moon_redis_subject_name(struct moon_redis_session_name *name,
                                        struct moon_str subject)
{
    struct moon_session_key hash;
    (void)crypto_hash_sha256(hash.bytes, (const unsigned char *)subject.ptr,
                             subject.len);
    char *to = put(name->text, MOON_STR("moon:u:"));
    to = moon_put_hex(to, hash.bytes, sizeof(hash.bytes));
    return moon_str(name->text, (size_t)(to - name->text));
}

/* "-1" for never. */
struct moon_str moon_redis_ms(struct moon_redis_number *number, int64_t ms)
{
    char *to = number->text;
    uint64_t value = ms == MOON_SESSION_NEVER ? UINT64_MAX : (uint64_t)ms;
    if (ms < 0 || ms == MOON_SESSION_NEVER) {
        *to++ = '-';
        value = 0 - value;
    }
    to = moon_put_u64(to, value);
    return moon_str(number->text, (size_t)(to - number->text));
}

int64_t moon_redis_to_ms(struct moon_str text)
{
    uint64_t value;
    return moon_str_to_u64(text, &value) && value <= INT64_MAX
               ? (int64_t)value
               : MOON_SESSION_NEVER; /* "-1" */
}

/* ---- jobs ---- */

static void on_gone(struct moon_session_call *call)
{
    struct moon_redis_job *job = (struct moon_redis_job *)call;
    moon_buf_deinit(&job->subject);
    moon_buf_deinit(&job->found);
    free(job->items);
    moon_redis_sessions_unref(job->store);
    free(job);
}

struct moon_redis_job *moon_redis_job_begin(struct moon_session_store *base,
                                            struct moon_session_op *op)
{
    struct moon_redis_sessions *store = (struct moon_redis_sessions *)base;
    /* glibc's calloc makes no use of what the thread just freed. */
    struct moon_redis_job *job = malloc(sizeof(*job));
    if (job != NULL)
        *job = (struct moon_redis_job){.store = store};
    moon_session_call_begin(job == NULL ? NULL : &job->call, op, on_gone);
    if (job == NULL)
        return NULL;
    job->store->refs++;
    return job;
}

bool moon_redis_job_hears(struct moon_redis_job *job, enum moon_err err,
                          const struct redisReply *reply, const char *whyz)
{
    job->call.waiting--;
    if (err != MOON_OK)
        moon_redis_job_end(job, err, moon_strz(whyz));
    else if (moon_redis_is_error(reply))
        moon_redis_job_end(job, MOON_EPROTO, moon_redis_text(reply));
    return job->call.op != NULL;
}

static void on_reply(void *ctx, enum moon_err err, struct redisReply **reply,
                     const char *whyz)
{
    struct moon_redis_job *job = ctx;
    if (moon_redis_job_hears(job, err, *reply, whyz))
        job->step(job, *reply);
    moon_session_call_rest(&job->call);
}

struct moon_redis_how moon_redis_job_how(struct moon_redis_job *job,
                                         moon_redis_done *done, void *ctx)
{
    return (struct moon_redis_how){
        .timeout_ms = moon_session_call_left(&job->call),
        .done = done,
        .ctx = ctx,
    };
}

bool moon_redis_job_asked(struct moon_redis_job *job, enum moon_err err)
{
    if (err == MOON_OK)
        job->call.waiting++;
    else if (err == MOON_ETIMEOUT)
        moon_redis_job_end(job, err, moon_strz(MOON_SESSION_NO_TIME));
    else
        moon_redis_job_end(job, err, moon_strz(moon_redis_whyz()));
    return err == MOON_OK;
}

void moon_redis_job_ask(struct moon_redis_job *job, const struct moon_str *argv,
                        uint32_t argc, moon_redis_step *step)
{
    const struct moon_redis_command command = {argv, argc, 1};
    struct moon_redis_how how = moon_redis_job_how(job, on_reply, job);
    how.flags = MOON_REDIS_READ_ONLY;
    job->step = step;
    enum moon_err err = MOON_ETIMEOUT;
    if (how.timeout_ms > 0)
        err = moon_redis_send(job->store->redis, &command, 1, &how, NULL);
    (void)moon_redis_job_asked(job, err);
}

void moon_redis_job_run(struct moon_redis_job *job,
                        enum moon_redis_session_script script,
                        const struct moon_str *argv, uint32_t keys,
                        uint32_t args, moon_redis_step *step)
{
    struct moon_redis_how how = moon_redis_job_how(job, on_reply, job);
    job->step = step;
    enum moon_err err = MOON_ETIMEOUT;
    if (how.timeout_ms > 0)
        err = moon_redis_eval(job->store->scripts[script], argv, keys, args,
                              &how, NULL);
    (void)moon_redis_job_asked(job, err);
}

static void on_told(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    (void)ctx;
    (void)err;
    (void)reply;
    (void)whyz;
}

void moon_redis_tell(struct moon_redis_sessions *store,
                     const struct moon_str *argv, uint32_t argc)
{
    const struct moon_redis_command command = {argv, argc, 1};
    const struct moon_redis_how how = {.done = on_told};
    /* An entry of an index that stays is only looked at in vain. */
    if (moon_redis_send(store->redis, &command, 1, &how, NULL) != MOON_OK)
        return;
}
