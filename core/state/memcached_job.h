/* Sessions in memcached: an operation as a job that asks servers in steps
 * (state/session_call.h), and the requests it makes. */
#ifndef MOON_STATE_MEMCACHED_JOB_H
#define MOON_STATE_MEMCACHED_JOB_H

#include "base/buf.h"
#include "state/memcached.h"
#include "state/session_call.h"
#include "state/session_record.h"

struct moon_memcached_sessions {
    struct moon_session_store base;
    uint32_t refs; /* the owner's and one of each job */
    char down[MOON_SESSION_WHY];
    uint32_t count; /* of servers, owned */
    struct moon_memcached *servers[];
};
/* The owner's, or a job's. */
void moon_memcached_sessions_unref(struct moon_memcached_sessions *store);

struct moon_memcached_job;
/* What is done with a reply; an error of memcached never comes here. */
typedef void moon_memcached_step(struct moon_memcached_job *job,
                                 const struct moon_memcached_reply *reply);

struct moon_memcached_job {
    struct moon_session_call call;         /* first */
    struct moon_memcached_sessions *store; /* a reference */
    moon_memcached_step *step;
    const struct moon_session_key *from, *to; /* borrowed */
    struct moon_session_change *change;       /* a sorted copy */
    int64_t now_ms;
    uint64_t cas;           /* of the item that was read last */
    uint64_t version;       /* of the record that was built last */
    struct moon_buf record; /* that */
    bool is_written;        /* a move: the new item is ours */
    enum moon_err outcome;  /* a move that is undone ends so */
    struct moon_buf request;
};

/* `change` may be NULL. NULL: no memory, told in op->err. */
MOON_MUST_CHECK struct moon_memcached_job *moon_memcached_job_begin(
    struct moon_session_store *store, struct moon_session_op *op,
    const struct moon_session_key *from,
    const struct moon_session_change *change);

/* How an item is written. */
enum moon_memcached_mode {
    MOON_MEMCACHED_ADD,     /* if there is none */
    MOON_MEMCACHED_IF_SAME, /* if its cas is still that of the job */
    MOON_MEMCACHED_SET,
};

/* Each asks the server of that session, and `step` is called, or the job ends.
 * What is written is the record of the job. */
void moon_memcached_read(struct moon_memcached_job *job,
                         const struct moon_session_key *key,
                         moon_memcached_step *step);
void moon_memcached_write(struct moon_memcached_job *job,
                          const struct moon_session_key *key,
                          enum moon_memcached_mode mode, uint64_t exptime,
                          moon_memcached_step *step);
void moon_memcached_delete(struct moon_memcached_job *job,
                           const struct moon_session_key *key, bool if_same,
                           moon_memcached_step *step);

/* What memcached is told of a life that ends no earlier: an exptime. */
uint64_t moon_memcached_exptime(const struct moon_session_view *view,
                                int64_t now_ms);

#endif
