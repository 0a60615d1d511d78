/* All sessions of a subject: those that the index names are asked themselves, a
 * few at a time, and believed rather than the index. */
#include "state/redis_sessions_internal.h"

#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum { AT_ONCE = 64, REMOVE_AT_ONCE = 500 };

struct moon_redis_session_item {
    struct moon_redis_job *job;
    struct moon_session_key key;
};

static void go_on(struct moon_redis_job *job);

/* ---- one session ---- */

static bool is_alive(const struct moon_session_record *record, int64_t now_ms)
{
    return record->version > 0 && !moon_session_is_over(record, now_ms);
}

static void add_to_list(struct moon_redis_session_item *item,
                        const struct redisReply *reply)
{
    struct moon_redis_job *job = item->job;
    struct moon_str text[6];
    for (size_t i = 0; i < MOON_COUNT(text); i++)
        text[i] = moon_redis_text(moon_redis_item(reply, i));
    struct moon_session_record record = {
        .version = text[0].len > 0, /* it is there */
        .created_ms = moon_redis_to_ms(text[1]),
        .seen_ms = moon_redis_to_ms(text[2]),
        .idle_ms = moon_redis_to_ms(text[3]),
        .expires_ms = moon_redis_to_ms(text[4]),
    };
    if (!is_alive(&record, job->now_ms) ||
        !moon_str_eq(text[5], moon_buf_str(&job->subject)))
        return;
    const struct moon_session_entry entry = {item->key, record.created_ms,
                                             record.seen_ms};
    moon_buf_add(&job->found, &entry, sizeof(entry));
}

static void on_item(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct moon_redis_session_item *item = ctx;
    struct moon_redis_job *job = item->job;
    if (moon_redis_job_hears(job, err, *reply, whyz)) {
        if (job->removes)
            job->call.op->count += (*reply)->integer == 1;
        else
            add_to_list(item, *reply);
        go_on(job);
    }
    moon_session_call_rest(&job->call);
}

static enum moon_err ask_item(struct moon_redis_job *job,
                              struct moon_redis_session_item *item)
{
    struct moon_redis_session_name name;
    struct moon_redis_how how = moon_redis_job_how(job, on_item, item);
    if (how.timeout_ms == 0)
        return MOON_ETIMEOUT;
    if (job->removes) {
        const struct moon_str argv[] = {
            moon_redis_session_name(&name, &item->key),
            moon_buf_str(&job->subject)};
        return moon_redis_eval(job->store->scripts[MOON_REDIS_REMOVE_OF], argv,
                               1, 1, &how, NULL);
    }
    const struct moon_str argv[] = {
        MOON_STR("HMGET"), moon_redis_session_name(&name, &item->key),
        MOON_STR("v"),     MOON_STR("c"),
        MOON_STR("s"),     MOON_STR("i"),
        MOON_STR("x"),     MOON_STR("u")};
    const struct moon_redis_command command = {argv, MOON_COUNT(argv), 1};
    how.flags = MOON_REDIS_READ_ONLY;
    return moon_redis_send(job->store->redis, &command, 1, &how, NULL);
}

/* ---- all of them ---- */

/* What was removed is not among the sessions of its subject any more. */
static void forget_items(struct moon_redis_job *job)
{
    struct moon_redis_session_name name;
    struct moon_str argv[2 + REMOVE_AT_ONCE] = {
        MOON_STR("ZREM"),
        moon_redis_subject_name(&name, moon_buf_str(&job->subject))};
    for (uint32_t i = 0; i < job->item_count;) {
        uint32_t argc = 2;
        for (; i < job->item_count && argc < MOON_COUNT(argv); i++)
            argv[argc++] = moon_str((const char *)job->items[i].key.bytes,
                                    MOON_SESSION_KEY);
        moon_redis_tell(job->store, argv, argc);
    }
}

static void finish(struct moon_redis_job *job)
{
    struct moon_session_list *list = (void *)job->found.ptr;
    if (job->removes) {
        forget_items(job);
    } else if (job->found.failed) {
        moon_redis_job_end(job, MOON_ENOMEM, MOON_STR_NONE);
        return;
    } else {
        list->count = (uint32_t)((job->found.len - sizeof(*list)) /
                                 sizeof(struct moon_session_entry));
        job->call.op->list = list;
        job->found = (struct moon_buf){0}; /* the caller's now */
    }
    moon_redis_job_end(job, MOON_OK, MOON_STR_NONE);
}

static void go_on(struct moon_redis_job *job)
{
    while (job->call.waiting < AT_ONCE && job->next_item < job->item_count) {
        enum moon_err err = ask_item(job, &job->items[job->next_item++]);
        if (!moon_redis_job_asked(job, err))
            return;
    }
    if (job->call.waiting == 0)
        finish(job);
}

static bool take_items(struct moon_redis_job *job,
                       const struct redisReply *reply)
{
    job->items = calloc(reply->elements + 1, sizeof(*job->items));
    if (job->items == NULL)
        return false;
    for (size_t i = 0; i < reply->elements; i++) {
        struct moon_str bytes = moon_redis_text(reply->element[i]);
        struct moon_redis_session_item *item = &job->items[job->item_count];
        if (bytes.len != MOON_SESSION_KEY)
            continue;
        memcpy(item->key.bytes, bytes.ptr, bytes.len);
        item->job = job;
        job->item_count++;
    }
    return true;
}

static void on_index(struct moon_redis_job *job, struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY)
        moon_redis_job_end(job, MOON_EPROTO, MOON_STR("not a sorted set"));
    else if (!take_items(job, reply))
        moon_redis_job_end(job, MOON_ENOMEM, MOON_STR_NONE);
    else
        go_on(job);
}

static enum moon_err begin(struct moon_redis_job *job, struct moon_str subject,
                           int64_t now_ms)
{
    struct moon_redis_session_name name;
    char after[32];
    struct moon_redis_number most;
    const struct moon_session_list head = {0};
    moon_buf_add_str(&job->subject, subject);
    moon_buf_add(&job->found, &head, sizeof(head));
    int len = snprintf(after, sizeof(after), "(%lld", (long long)now_ms);
    const struct moon_str argv[] = {
        MOON_STR("ZRANGEBYSCORE"),
        moon_redis_subject_name(&name, subject),
        moon_str(after, (size_t)len),
        MOON_STR("+inf"),
        MOON_STR("LIMIT"),
        MOON_STR("0"),
        moon_redis_ms(&most, MOON_REDIS_SESSIONS_LIST_MAX)};
    job->now_ms = now_ms;
    if (job->subject.failed || job->found.failed)
        moon_redis_job_end(job, MOON_ENOMEM, MOON_STR_NONE);
    else
        moon_redis_job_ask(job, argv, MOON_COUNT(argv), on_index);
    return moon_redis_job_begun(job);
}

enum moon_err moon_redis_sessions_list(struct moon_session_store *store,
                                       struct moon_session_op *op,
                                       struct moon_str subject, int64_t now_ms)
{
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    op->list = NULL;
    return begin(job, subject, now_ms);
}

enum moon_err moon_redis_sessions_remove_all(struct moon_session_store *store,
                                             struct moon_session_op *op,
                                             struct moon_str subject)
{
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    op->count = 0;
    job->removes = true;
    return begin(job, subject, 0);
}
