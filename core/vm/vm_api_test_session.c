/* A session that a test wants its request to have: made in the store before the
 * request is sent, so that what the request meets is an ordinary one. Freed by
 * Lua, in the end by the collector, when no task waits any more. */
#include "state/session_stores.h"
#include "vm/vm_api.h"
#include "vm/vm_api_session.h"
#include "vm/vm_internal.h"

#include <stdlib.h>

struct moon_test_session {
    struct moon_session session;
    struct moon_arena arena; /* its fields */
    struct moon_task *task;  /* that waits, or NULL */
    enum moon_err outcome;
};

moon_test_session *moon_test_session_new(void)
{
    const struct moon_vm_options *options = &moon_vm_here()->options;
    if (!options->probe || options->sessions == NULL)
        return NULL;
    struct moon_session_store *store =
        moon_session_source_store(options->sessions);
    struct moon_test_session *made =
        store == NULL ? NULL : calloc(1, sizeof(*made));
    if (made == NULL)
        return NULL;
    const struct moon_session_settings settings =
        moon_vm_session_settings(options->config);
    moon_arena_init(&made->arena, NULL, 0);
    moon_session_init(&made->session, store, &settings, &made->arena,
                      MOON_STR_NONE);
    return made;
}

void moon_test_session_free(moon_test_session *made)
{
    moon_session_deinit(&made->session);
    moon_arena_reset(&made->arena);
    free(made);
}

int moon_test_session_set(moon_test_session *made, const char *name, size_t len,
                          const char *value, size_t value_len)
{
    return moon_session_set(&made->session, moon_str(name, len),
                            moon_str(value, value_len));
}

static void on_saved(void *ctx, enum moon_err err)
{
    struct moon_test_session *made = ctx;
    struct moon_task *task = made->task;
    made->outcome = err;
    made->task = NULL;
    if (task != NULL)
        moon_task_wake(task, 0);
}

static void undo(struct moon_task *task, void *data)
{
    struct moon_test_session *made = data;
    (void)task;
    made->task = NULL;
    moon_session_cancel(&made->session);
}

int moon_test_session_save(moon_test_session *made)
{
    enum moon_err err = moon_session_commit(&made->session, on_saved, made);
    made->outcome = err;
    if (err != MOON_EAGAIN)
        return err;
    struct moon_task *task = moon_task_running();
    err = moon_task_wait(task, "session", undo, made);
    if (err != MOON_OK) {
        moon_session_cancel(&made->session);
        made->outcome = err;
        return err;
    }
    made->task = task;
    return 1;
}

int moon_test_session_outcome(const moon_test_session *made, moon_bytes *out)
{
    const struct moon_session *session = &made->session;
    *out = moon_bytes_of(moon_str(session->id, sizeof(session->id)));
    if (made->outcome != MOON_OK)
        *out = moon_bytes_of(moon_strz(session->op.why[0] != '\0'
                                           ? session->op.why
                                           : moon_err_text(made->outcome)));
    return made->outcome;
}
