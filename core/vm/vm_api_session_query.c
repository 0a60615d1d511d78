/* moonshine.sessions: what concerns all sessions of a subject. A query is freed
 * by Lua, in the end by the collector: on whatever thread closes the VM, when
 * no task waits any more. */
#include "base/clock.h"
#include "state/session_stores.h"
#include "vm/vm_api.h"
#include "vm/vm_internal.h"

#include <stdlib.h>

enum { BUDGET_MS = 1000 };

struct moon_session_query {
    struct moon_session_op op;
    struct moon_session_store *store;
    struct moon_task *task;  /* that waits, or NULL */
    struct moon_str subject; /* owned */
};

static struct moon_session_store *sessions_here(void)
{
    struct moon_session_source *source = moon_vm_here()->options.sessions;
    return source == NULL ? NULL : moon_session_source_store(source);
}

moon_session_query *moon_session_query_new(void)
{
    struct moon_session_query *query = calloc(1, sizeof(*query));
    if (query != NULL)
        query->store = sessions_here();
    return query;
}

void moon_session_query_free(moon_session_query *query)
{
    free(query->op.list);
    free((void *)(uintptr_t)query->subject.ptr);
    free(query);
}

static void on_done(struct moon_session_op *op)
{
    struct moon_session_query *query = op->ctx;
    struct moon_task *task = query->task;
    query->task = NULL;
    if (task != NULL)
        moon_task_wake(task, 0);
}

static void undo(struct moon_task *task, void *data)
{
    struct moon_session_query *query = data;
    (void)task;
    query->task = NULL;
    query->store->ops->cancel(query->store, &query->op);
}

static bool prepare(struct moon_session_query *query, const char *subject,
                    size_t len)
{
    char *copy = malloc(len == 0 ? 1 : len);
    if (copy == NULL)
        return false;
    memcpy(copy, subject, len);
    query->subject = moon_str(copy, len);
    query->op = (struct moon_session_op){
        .done = on_done,
        .ctx = query,
        .deadline_ms = moon_clock_ms() + BUDGET_MS,
    };
    return true;
}

static int wait_for(struct moon_session_query *query, enum moon_err err)
{
    query->op.err = err;
    if (err != MOON_EAGAIN)
        return err;
    struct moon_task *task = moon_task_running();
    err = moon_task_wait(task, "sessions", undo, query);
    if (err != MOON_OK) {
        query->store->ops->cancel(query->store, &query->op);
        return err;
    }
    query->task = task;
    return 1;
}

int moon_session_query_list(moon_session_query *query, const char *subject,
                            size_t len)
{
    if (query->store == NULL)
        return MOON_EDENIED;
    if (!prepare(query, subject, len))
        return MOON_ENOMEM;
    int64_t now_ms = (int64_t)(moon_clock_wall() * 1000);
    return wait_for(query, query->store->ops->list(query->store, &query->op,
                                                   query->subject, now_ms));
}

int moon_session_query_remove(moon_session_query *query, const char *subject,
                              size_t len)
{
    if (query->store == NULL)
        return MOON_EDENIED;
    if (!prepare(query, subject, len))
        return MOON_ENOMEM;
    return wait_for(query, query->store->ops->remove_all(
                               query->store, &query->op, query->subject));
}

int moon_session_query_outcome(const moon_session_query *query, uint32_t *count,
                               moon_bytes *why)
{
    *count = query->op.list != NULL ? query->op.list->count : query->op.count;
    *why = moon_bytes_of(moon_strz(query->op.why[0] != '\0'
                                       ? query->op.why
                                       : moon_err_text(query->op.err)));
    return query->op.err;
}

bool moon_session_query_at(const moon_session_query *query, uint32_t index,
                           moon_bytes *key, double *created, double *seen)
{
    const struct moon_session_list *list = query->op.list;
    if (list == NULL || index >= list->count)
        return false;
    const struct moon_session_entry *entry = &list->entries[index];
    *key = moon_bytes_of(
        moon_str((const char *)entry->key.bytes, sizeof(entry->key.bytes)));
    *created = (double)entry->created_ms / 1000;
    *seen = (double)entry->seen_ms / 1000;
    return true;
}
