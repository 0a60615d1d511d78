/* Shared by the parts of state/redis_sessions.h: names, and operations as jobs
 * that ask Redis in steps (state/session_call.h). */
#ifndef MOON_STATE_REDIS_SESSIONS_INTERNAL_H
#define MOON_STATE_REDIS_SESSIONS_INTERNAL_H

#include "base/buf.h"
#include "state/redis_sessions.h"
#include "state/session_call.h"

struct redisReply;

enum moon_redis_session_script {
    MOON_REDIS_SAVE,
    MOON_REDIS_TOUCH,
    MOON_REDIS_REMOVE,
    MOON_REDIS_REMOVE_OF,
    MOON_REDIS_INDEX,
    MOON_REDIS_SESSION_SCRIPTS,
};

struct moon_redis_sessions {
    struct moon_session_store base;
    struct moon_redis *redis; /* a reference */
    struct moon_redis_script *scripts[MOON_REDIS_SESSION_SCRIPTS];
    uint32_t refs; /* the owner's and one of each job */
    char down[MOON_SESSION_WHY];
};

enum { MOON_REDIS_SESSION_NAME = 80 };
/* The name of a session, or of the sessions of a subject. */
struct moon_redis_session_name {
    char text[MOON_REDIS_SESSION_NAME];
};
struct moon_str moon_redis_session_name(struct moon_redis_session_name *name,
                                        const struct moon_session_key *key);
struct moon_str moon_redis_subject_name(struct moon_redis_session_name *name,
                                        struct moon_str subject);
/* Times as the scripts have them. */
struct moon_redis_number {
    char text[24];
};
struct moon_str moon_redis_ms(struct moon_redis_number *number, int64_t ms);
int64_t moon_redis_to_ms(struct moon_str text);

struct moon_redis_job;
/* The reply of a step; an error of Redis never comes here. */
typedef void moon_redis_step(struct moon_redis_job *job,
                             struct redisReply *reply);

/* An operation. */
struct moon_redis_job {
    struct moon_session_call call;     /* first */
    struct moon_redis_sessions *store; /* a reference */
    moon_redis_step *step;
    /* of a save, move, remove; borrowed */
    const struct moon_session_key *from, *to;
    const struct moon_session_change *change;
    int64_t now_ms;
    struct moon_buf subject;
    /* of a list (redis_session_lists.c) */
    struct moon_redis_session_item *items; /* owned */
    uint32_t item_count, next_item;
    struct moon_buf found;
    bool removes;
};

/* NULL: no memory, told in op->err. */
MOON_MUST_CHECK struct moon_redis_job *moon_redis_job_begin(
    struct moon_session_store *store, struct moon_session_op *op);
/* Asks Redis; `step` is called with the reply, or the job ends. */
void moon_redis_job_ask(struct moon_redis_job *job, const struct moon_str *argv,
                        uint32_t argc, moon_redis_step *step);
void moon_redis_job_run(struct moon_redis_job *job,
                        enum moon_redis_session_script script,
                        const struct moon_str *argv, uint32_t keys,
                        uint32_t args, moon_redis_step *step);
/* Nobody waits for the answer. */
void moon_redis_tell(struct moon_redis_sessions *store,
                     const struct moon_str *argv, uint32_t argc);

/* The parts of that, for steps that ask several at once. A timeout_ms of 0: its
 * time is over. */
struct moon_redis_how moon_redis_job_how(struct moon_redis_job *job,
                                         moon_redis_done *done, void *ctx);
/* What came of asking; false: the job ended. */
bool moon_redis_job_asked(struct moon_redis_job *job, enum moon_err err);
/* A reply; false: the job ended, or was over. */
bool moon_redis_job_hears(struct moon_redis_job *job, enum moon_err err,
                          const struct redisReply *reply, const char *whyz);

/* As moon_session_call_... */
static inline enum moon_err moon_redis_job_begun(struct moon_redis_job *job)
{
    return moon_session_call_begun(&job->call);
}
static inline void moon_redis_job_end(struct moon_redis_job *job,
                                      enum moon_err err, struct moon_str why)
{
    moon_session_call_end(&job->call, err, why);
}

/* As in moon_session_store_ops. */
enum moon_err moon_redis_sessions_list(struct moon_session_store *store,
                                       struct moon_session_op *op,
                                       struct moon_str subject, int64_t now_ms);
enum moon_err moon_redis_sessions_remove_all(struct moon_session_store *store,
                                             struct moon_session_op *op,
                                             struct moon_str subject);

/* The owner's, or a job's. */
void moon_redis_sessions_unref(struct moon_redis_sessions *store);

#endif
