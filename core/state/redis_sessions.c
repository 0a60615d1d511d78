#include "state/redis_sessions_internal.h"

#include "state/redis_proto.h"
#include "state/redis_session_scripts.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

/* Unless it was renewed, when the entry of a session that has no end ends. */
#define FAR_MS INT64_C(253402300799000)

/* ---- load ---- */

/* "v", "c", "s", "i", "x": a number; "u": the subject; ":NAME": a field. */
static void take(struct moon_session_record *record, struct moon_str name,
                 struct moon_str value, char **to)
{
    if (name.len > 0 && name.ptr[0] == ':') {
        char *at = *to;
        memcpy(at, name.ptr + 1, name.len - 1);
        memcpy(at + name.len - 1, value.ptr, value.len);
        *to = at + name.len - 1 + value.len;
        record->fields[record->field_count++] = (struct moon_session_field){
            moon_str(at, name.len - 1), moon_str(at + name.len - 1, value.len)};
        return;
    }
    uint64_t number = 0;
    switch (name.len == 1 ? name.ptr[0] : 0) {
    case 'v':
        record->version = moon_str_to_u64(value, &number) ? number : 0;
        break;
    case 'c':
        record->created_ms = moon_redis_to_ms(value);
        break;
    case 's':
        record->seen_ms = moon_redis_to_ms(value);
        break;
    case 'i':
        record->idle_ms = moon_redis_to_ms(value);
        break;
    case 'x':
        record->expires_ms = moon_redis_to_ms(value);
        break;
    case 'u':
        record->subject = moon_str(*to, value.len);
        memcpy(*to, value.ptr, value.len);
        *to += value.len;
        break;
    default: /* of a later version */
        break;
    }
}

static struct moon_session_record *read_record(const struct redisReply *reply)
{
    size_t pairs = reply->elements / 2, bytes = 0;
    for (size_t i = 0; i < reply->elements; i++)
        bytes += moon_redis_text(reply->element[i]).len;
    struct moon_session_record *record = malloc(
        sizeof(*record) + pairs * sizeof(struct moon_session_field) + bytes);
    if (record == NULL)
        return NULL;
    *record = (struct moon_session_record){
        .idle_ms = MOON_SESSION_NEVER,
        .expires_ms = MOON_SESSION_NEVER,
    };
    char *to = (char *)(record->fields + pairs);
    for (size_t i = 0; i < pairs; i++)
        take(record, moon_redis_text(reply->element[2 * i]),
             moon_redis_text(reply->element[2 * i + 1]), &to);
    return record;
}

static void on_loaded(struct moon_redis_job *job, struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY) {
        moon_redis_job_end(job, MOON_EPROTO, MOON_STR("not a hash"));
        return;
    }
    struct moon_session_record *record = read_record(reply);
    enum moon_err err = record == NULL ? MOON_ENOMEM : MOON_OK;
    if (record != NULL &&
        (record->version == 0 || moon_session_is_over(record, job->now_ms)))
        err = MOON_ENOT_FOUND;
    if (err == MOON_OK)
        job->call.op->record = record;
    else
        free(record);
    moon_redis_job_end(job, err, MOON_STR_NONE);
}

static enum moon_err load(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key, int64_t now_ms)
{
    struct moon_redis_session_name name;
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    job->now_ms = now_ms;
    const struct moon_str argv[] = {MOON_STR("HGETALL"),
                                    moon_redis_session_name(&name, key)};
    moon_redis_job_ask(job, argv, MOON_COUNT(argv), on_loaded);
    return moon_redis_job_begun(job);
}

/* ---- save and move ---- */

enum { SAVE_ARGS = 7, SAVE_FIELDS = 8, SAVE_NAMES = 256 };

/* A usual one needs no memory of its own. */
struct save_argv {
    struct moon_str *argv;
    char *names; /* of fields, each behind its colon */
    struct moon_str few[2 + SAVE_ARGS + 2 * SAVE_FIELDS];
    char short_names[SAVE_NAMES];
    struct moon_redis_session_name from, to;
    struct moon_redis_number now, version, idle, expires, removed;
    char flags[4];
};

/* The names that are removed or, with `set`, names and values. */
static struct moon_str *add_fields(struct moon_str *to, char **names,
                                   const struct moon_session_change *change,
                                   bool set)
{
    for (uint32_t i = 0; i < change->field_count; i++) {
        const struct moon_session_field *field = &change->fields[i];
        if ((field->value.ptr != NULL) != set)
            continue;
        char *name = *names;
        name[0] = ':';
        memcpy(name + 1, field->name.ptr, field->name.len);
        *names = name + 1 + field->name.len;
        *to++ = moon_str(name, 1 + field->name.len);
        if (set)
            *to++ = field->value;
    }
    return to;
}

static struct moon_str flags_of(struct save_argv *save,
                                const struct moon_session_change *change)
{
    size_t count = 0;
    if (change->create)
        save->flags[count++] = MOON_REDIS_SESSION_CREATE;
    if (change->clear)
        save->flags[count++] = MOON_REDIS_SESSION_CLEAR;
    if (change->sets_subject)
        save->flags[count++] = MOON_REDIS_SESSION_SUBJECT;
    return moon_str(save->flags, count);
}

/* How many strings; 0: no memory. */
static uint32_t build_save(struct save_argv *save,
                           const struct moon_redis_job *job)
{
    const struct moon_session_change *change = job->change;
    size_t bytes = 1;
    uint32_t removed = 0;
    for (uint32_t i = 0; i < change->field_count; i++) {
        bytes += 1 + change->fields[i].name.len;
        removed += change->fields[i].value.ptr == NULL;
    }
    save->argv = save->few;
    save->names = save->short_names;
    if (change->field_count > SAVE_FIELDS)
        save->argv = malloc((2 + SAVE_ARGS + 2 * (size_t)change->field_count) *
                            sizeof(*save->argv));
    if (bytes > SAVE_NAMES)
        save->names = malloc(bytes);
    if (save->argv == NULL || save->names == NULL)
        return 0;
    struct moon_str *to = save->argv;
    char *names = save->names;
    *to++ = moon_redis_session_name(&save->from, job->from);
    if (job->to != NULL)
        *to++ = moon_redis_session_name(&save->to, job->to);
    *to++ = moon_redis_ms(&save->now, change->now_ms);
    *to++ = flags_of(save, change);
    *to++ = moon_redis_ms(&save->version, (int64_t)change->if_version);
    *to++ = moon_redis_ms(&save->idle, change->idle_ms);
    *to++ = moon_redis_ms(&save->expires, change->expires_ms);
    *to++ = change->sets_subject ? change->subject : MOON_STR("");
    *to++ = moon_redis_ms(&save->removed, removed);
    to = add_fields(to, &names, change, false);
    to = add_fields(to, &names, change, true);
    return (uint32_t)(to - save->argv);
}

static void on_saved(struct moon_redis_job *job, struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < -1) {
        moon_redis_job_end(job, MOON_EPROTO, MOON_STR("not a version"));
        return;
    }
    enum moon_err err = MOON_OK;
    if (reply->integer <= 0)
        err = reply->integer == 0 ? MOON_ENOT_FOUND : MOON_EEXISTS;
    else
        job->call.op->version = (uint64_t)reply->integer;
    if (err == MOON_OK && job->to != NULL && job->subject.len > 0) {
        struct moon_redis_session_name name;
        const struct moon_str argv[] = {
            MOON_STR("ZREM"),
            moon_redis_subject_name(&name, moon_buf_str(&job->subject)),
            moon_str((const char *)job->from->bytes, MOON_SESSION_KEY)};
        moon_redis_tell(job->store, argv, MOON_COUNT(argv));
    }
    moon_redis_job_end(job, err, MOON_STR_NONE);
}

static void write_session(struct moon_redis_job *job)
{
    struct save_argv save;
    uint32_t keys = job->to == NULL ? 1 : 2, count = build_save(&save, job);
    if (count == 0)
        moon_redis_job_end(job, MOON_ENOMEM, MOON_STR_NONE);
    else
        moon_redis_job_run(job, MOON_REDIS_SAVE, save.argv, keys, count - keys,
                           on_saved);
    if (save.argv != save.few)
        free(save.argv);
    if (save.names != save.short_names)
        free(save.names);
}

static void on_indexed(struct moon_redis_job *job, struct redisReply *reply)
{
    (void)reply;
    write_session(job);
}

/* An entry among the sessions of the subject, then the session itself. */
static void write_with_subject(struct moon_redis_job *job,
                               struct moon_str subject)
{
    struct moon_redis_session_name name;
    struct moon_redis_number now, end, most;
    const struct moon_session_change *change = job->change;
    const struct moon_session_key *key = job->to == NULL ? job->from : job->to;
    if (subject.len == 0) {
        write_session(job);
        return;
    }
    moon_buf_add_str(&job->subject, subject);
    if (job->subject.failed) {
        moon_redis_job_end(job, MOON_ENOMEM, MOON_STR_NONE);
        return;
    }
    const struct moon_str argv[] = {
        moon_redis_subject_name(&name, subject),
        moon_redis_ms(&now, change->now_ms),
        moon_str((const char *)key->bytes, MOON_SESSION_KEY),
        moon_redis_ms(&end, change->expires_ms < FAR_MS ? change->expires_ms
                                                        : FAR_MS),
        moon_redis_ms(&most, MOON_REDIS_SESSIONS_LIST_MAX)};
    moon_redis_job_run(job, MOON_REDIS_INDEX, argv, 1, MOON_COUNT(argv) - 1,
                       on_indexed);
}

static enum moon_err save(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key,
                          const struct moon_session_change *change)
{
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    job->from = key;
    job->change = change;
    write_with_subject(job,
                       change->sets_subject ? change->subject : MOON_STR_NONE);
    return moon_redis_job_begun(job);
}

static void on_subject(struct moon_redis_job *job, struct redisReply *reply)
{
    write_with_subject(job, moon_redis_text(reply));
}

static enum moon_err move(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *from,
                          const struct moon_session_key *to,
                          const struct moon_session_change *change)
{
    struct moon_redis_session_name name;
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    job->from = from;
    job->to = to;
    job->change = change;
    const struct moon_str argv[] = {
        MOON_STR("HGET"), moon_redis_session_name(&name, from), MOON_STR("u")};
    if (change->sets_subject)
        write_with_subject(job, change->subject);
    else
        moon_redis_job_ask(job, argv, MOON_COUNT(argv), on_subject);
    return moon_redis_job_begun(job);
}

/* ---- touch and remove ---- */

static void on_touched(struct moon_redis_job *job, struct redisReply *reply)
{
    moon_redis_job_end(job, reply->integer == 1 ? MOON_OK : MOON_ENOT_FOUND,
                       MOON_STR_NONE);
}

static enum moon_err touch(struct moon_session_store *store,
                           struct moon_session_op *op,
                           const struct moon_session_key *key, int64_t now_ms)
{
    struct moon_redis_session_name name;
    struct moon_redis_number now;
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    const struct moon_str argv[] = {moon_redis_session_name(&name, key),
                                    moon_redis_ms(&now, now_ms)};
    moon_redis_job_run(job, MOON_REDIS_TOUCH, argv, 1, 1, on_touched);
    return moon_redis_job_begun(job);
}

static void on_removed(struct moon_redis_job *job, struct redisReply *reply)
{
    struct moon_str subject = moon_redis_text(reply);
    if (reply->type == REDIS_REPLY_STRING && subject.len > 0) {
        struct moon_redis_session_name name;
        const struct moon_str argv[] = {
            MOON_STR("ZREM"), moon_redis_subject_name(&name, subject),
            moon_str((const char *)job->from->bytes, MOON_SESSION_KEY)};
        moon_redis_tell(job->store, argv, MOON_COUNT(argv));
    }
    moon_redis_job_end(
        job, reply->type == REDIS_REPLY_STRING ? MOON_OK : MOON_ENOT_FOUND,
        MOON_STR_NONE);
}

static enum moon_err remove_one(struct moon_session_store *store,
                                struct moon_session_op *op,
                                const struct moon_session_key *key)
{
    struct moon_redis_session_name name;
    struct moon_redis_job *job = moon_redis_job_begin(store, op);
    if (job == NULL)
        return op->err;
    job->from = key;
    const struct moon_str argv[] = {moon_redis_session_name(&name, key)};
    moon_redis_job_run(job, MOON_REDIS_REMOVE, argv, 1, 0, on_removed);
    return moon_redis_job_begun(job);
}

/* ---- the store ---- */

static const char *down(struct moon_session_store *base)
{
    struct moon_redis_sessions *store = (struct moon_redis_sessions *)base;
    struct moon_redis_status status;
    moon_redis_get_status(store->redis, &status);
    if (status.up)
        return NULL;
    (void)snprintf(store->down, sizeof(store->down), "%s: %s", status.urlz,
                   status.whyz);
    return store->down;
}

void moon_redis_sessions_unref(struct moon_redis_sessions *store)
{
    if (--store->refs > 0)
        return;
    for (int i = 0; i < MOON_REDIS_SESSION_SCRIPTS; i++)
        if (store->scripts[i] != NULL)
            moon_redis_script_unref(store->scripts[i]);
    moon_redis_unref(store->redis);
    free(store);
}

static void close_store(struct moon_session_store *store)
{
    moon_redis_sessions_unref((struct moon_redis_sessions *)store);
}

static const struct moon_session_store_ops ops = {
    .namez = "redis",
    .load = load,
    .save = save,
    .move = move,
    .touch = touch,
    .remove = remove_one,
    .list = moon_redis_sessions_list,
    .remove_all = moon_redis_sessions_remove_all,
    .cancel = moon_session_call_cancel,
    .down = down,
    .close = close_store,
    .wants_same_first_byte = true,
};

static bool get_scripts(struct moon_redis_sessions *store)
{
    const char *const sources[MOON_REDIS_SESSION_SCRIPTS] = {
        [MOON_REDIS_SAVE] = moon_redis_session_save,
        [MOON_REDIS_TOUCH] = moon_redis_session_touch,
        [MOON_REDIS_REMOVE] = moon_redis_session_remove,
        [MOON_REDIS_REMOVE_OF] = moon_redis_session_remove_of,
        [MOON_REDIS_INDEX] = moon_redis_session_index,
    };
    bool all = true;
    for (int i = 0; i < MOON_REDIS_SESSION_SCRIPTS; i++) {
        store->scripts[i] =
            moon_redis_script_get(store->redis, moon_strz(sources[i]));
        all = all && store->scripts[i] != NULL;
    }
    return all;
}

enum moon_err moon_redis_sessions_open(uv_loop_t *loop, const char *urlz,
                                       const struct moon_redis_options *options,
                                       struct moon_session_store **out,
                                       char *error, size_t error_size)
{
    struct moon_redis_sessions *store = calloc(1, sizeof(*store));
    enum moon_err err = MOON_ENOMEM;
    if (store != NULL)
        err = moon_redis_get(loop, urlz, options, &store->redis, error,
                             error_size);
    else
        (void)snprintf(error, error_size, "%s", moon_err_text(err));
    if (err != MOON_OK) {
        free(store);
        return err;
    }
    store->base.ops = &ops;
    store->refs = 1;
    if (!get_scripts(store)) {
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        moon_redis_sessions_unref(store);
        return MOON_ENOMEM;
    }
    *out = &store->base;
    return MOON_OK;
}
