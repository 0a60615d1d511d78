#include "vm/vm_api_session.h"

#include "base/tally.h"
#include "state/session_stores.h"
#include "vm/json_number.h"
#include "vm/vm_api.h"
#include "vm/vm_internal.h"

#include <math.h>

/* For all that one request asks of the store, so that its answer is with the
 * client after 250 ms. */
enum { NAME_MAX_BYTES = 256, BUDGET_MS = 240, PLAIN_INLINE = 512 };
enum { DO_CLEAR = 1, DO_RENEW, DO_END, DO_FORGET };
enum {
    FIELD_NONE,
    FIELD_JSON,
    FIELD_NUMBER,
    FIELD_STRING,
    FIELD_FALSE,
    FIELD_TRUE
};

struct moon_held_session {
    struct moon_session session;
    struct moon_task *task; /* that waits, or NULL */
    enum moon_err outcome;  /* of the last operation */
};

void moon_api_session_keep(void)
{
}

static struct moon_held_session *held_by(const moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL ? NULL : x->session;
}

static int64_t or_never(uint64_t ms)
{
    return ms == MOON_CONFIG_NONE ? MOON_SESSION_NEVER : (int64_t)ms;
}

struct moon_session_settings moon_vm_session_settings(
    const struct moon_config *config)
{
    return (struct moon_session_settings){
        .idle_ms = or_never(config->session_idle_ms),
        .absolute_ms = or_never(config->session_absolute_ms),
        .budget_ms = BUDGET_MS,
    };
}

/* What the cookie of the session says; empty: there is none. */
static struct moon_str sent_id(moon_slot *slot, struct moon_exchange *x,
                               struct moon_str name, struct moon_str secure)
{
    moon_bytes found;
    if (!moon_str_eq(name, secure) &&
        moon_str_eq(moon_exchange_client(x)->scheme, MOON_STR("https")))
        name = secure;
    return moon_req_cookie(slot, name.ptr, name.len, &found)
               ? moon_str(found.ptr, found.len)
               : MOON_STR("");
}

int moon_session_open(moon_slot *slot, const char *name, size_t name_len,
                      const char *secure, size_t secure_len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    const struct moon_vm_options *options = &moon_vm_here()->options;
    if (x == NULL)
        return MOON_ECLOSED;
    if (x->session != NULL)
        return MOON_OK;
    if (options->sessions == NULL)
        return MOON_EDENIED;
    struct moon_session_store *store =
        moon_session_source_store(options->sessions);
    if (store == NULL)
        return MOON_ENOMEM;
    struct moon_held_session *held = moon_arena_alloc(&x->arena, sizeof(*held));
    if (held == NULL)
        return MOON_ENOMEM;
    const struct moon_session_settings settings =
        moon_vm_session_settings(options->config);
    *held = (struct moon_held_session){0};
    moon_session_init(&held->session, store, &settings, &x->arena,
                      sent_id(slot, x, moon_str(name, name_len),
                              moon_str(secure, secure_len)));
    x->session = held;
    return MOON_OK;
}

/* A task that waits for the store may be none of the request's: the context was
 * given to one that was spawned. */
void moon_held_session_end(struct moon_exchange *x)
{
    struct moon_task *task = x->session->task;
    moon_session_deinit(&x->session->session);
    x->session = NULL;
    if (task != NULL)
        moon_task_wake(task, 0);
}

/* ---- waiting for the store ---- */

/* That a session is gone, or somebody else was quicker, is no failure. */
static void note_outcome(struct moon_held_session *held, enum moon_err err)
{
    held->outcome = err;
    if (err != MOON_OK && err != MOON_EAGAIN && err != MOON_ENOT_FOUND &&
        err != MOON_EEXISTS && err != MOON_ETOO_BIG)
        moon_tally_add(MOON_TALLY_SESSION_STORE_ERRORS, 1);
}

static void on_ready(void *ctx, enum moon_err err)
{
    struct moon_held_session *held = ctx;
    struct moon_task *task = held->task;
    note_outcome(held, err);
    held->task = NULL;
    if (task != NULL)
        moon_task_wake(task, 0);
}

/* The task is being ended. It may be one of several of its request. */
static void undo(struct moon_task *task, void *data)
{
    struct moon_held_session *held = data;
    (void)task;
    held->task = NULL;
    moon_session_cancel(&held->session);
}

static int wait_for(struct moon_held_session *held, enum moon_err err)
{
    struct moon_task *task = moon_task_running();
    note_outcome(held, err);
    if (err != MOON_EAGAIN)
        return err;
    err = moon_task_wait(task, "session", undo, held);
    if (err != MOON_OK) {
        moon_session_cancel(&held->session);
        return err;
    }
    held->task = task;
    return 1;
}

int moon_session_begin_load(moon_slot *slot, bool again)
{
    struct moon_held_session *held = held_by(slot);
    if (held == NULL)
        return MOON_ECLOSED;
    struct moon_session *session = &held->session;
    return wait_for(held, again ? moon_session_reload(session, on_ready, held)
                                : moon_session_load(session, on_ready, held));
}

int moon_session_begin_commit(moon_slot *slot)
{
    struct moon_held_session *held = held_by(slot);
    return held == NULL ? MOON_ECLOSED
                        : wait_for(held, moon_session_commit(&held->session,
                                                             on_ready, held));
}

bool moon_session_unsaved(moon_slot *slot)
{
    const struct moon_held_session *held = held_by(slot);
    return held != NULL && moon_session_is_dirty(&held->session);
}

bool moon_session_is_busy(moon_slot *slot)
{
    const struct moon_held_session *held = held_by(slot);
    return held != NULL && held->session.busy;
}

int moon_session_outcome(moon_slot *slot)
{
    const struct moon_held_session *held = held_by(slot);
    return held == NULL ? MOON_ECLOSED : held->outcome;
}

void moon_session_why(moon_slot *slot, moon_bytes *out)
{
    const struct moon_held_session *held = held_by(slot);
    const char *whyz = held == NULL ? "" : held->session.op.why;
    if (held != NULL && whyz[0] == '\0')
        whyz = moon_err_text(held->outcome);
    *out = moon_bytes_of(moon_strz(whyz));
}

void moon_session_touch_later(moon_slot *slot)
{
    const struct moon_held_session *held = held_by(slot);
    if (held != NULL && moon_session_wants_touch(&held->session))
        moon_session_source_touch(moon_vm_here()->options.sessions,
                                  &held->session.key);
}

int moon_session_cookie_of(moon_slot *slot, moon_bytes *id, double *keep_s)
{
    const struct moon_held_session *held = held_by(slot);
    if (held == NULL)
        return MOON_SESSION_COOKIE_NONE;
    *id = moon_bytes_of(moon_str(held->session.id, MOON_SESSION_ID));
    *keep_s = (double)held->session.keep_s;
    return (int)held->session.cookie;
}

/* ---- fields ---- */

/* "d:name"; its length, 0 if the name is too long. */
static struct moon_str full_name(int kind, const char *name, size_t len,
                                 char to[NAME_MAX_BYTES])
{
    if (len > NAME_MAX_BYTES - 2)
        return MOON_STR_NONE;
    to[0] = (char)kind;
    to[1] = ':';
    if (len > 0)
        memcpy(to + 2, name, len);
    return moon_str(to, len + 2);
}

bool moon_session_has(moon_slot *slot)
{
    const struct moon_held_session *held = held_by(slot);
    return held != NULL && moon_session_exists(&held->session);
}

/* Every byte of it stands for itself in JSON. */
bool moon_session_is_plain(const char *value, size_t len)
{
    bool plain = true;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        plain &= (c >= ' ') & (c < 0x7f) & (c != '"') & (c != '\\');
    }
    return plain;
}

/* What moon_session_get_field returns of a JSON text. */
static int look_at(struct moon_str text, moon_bytes *out, double *number)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    char first = text.len > 0 ? text.ptr[0] : '\0';
    *out = moon_bytes_of(text);
    if (first == '"' && text.len >= 2 && end[-1] == '"' &&
        moon_session_is_plain(at + 1, text.len - 2)) {
        *out = moon_bytes_of(moon_str(at + 1, text.len - 2));
        return FIELD_STRING;
    }
    if (((first >= '0' && first <= '9') || first == '-') &&
        moon_json_number_read(&at, end, number) == MOON_JSON_NUMBER_OK &&
        at == end)
        return FIELD_NUMBER;
    if (moon_str_eq(text, MOON_STR("false")))
        return FIELD_FALSE;
    return moon_str_eq(text, MOON_STR("true")) ? FIELD_TRUE : FIELD_JSON;
}

int moon_session_get_field(moon_slot *slot, int kind, const char *name,
                           size_t len, moon_bytes *out, double *number)
{
    const struct moon_held_session *held = held_by(slot);
    char text[NAME_MAX_BYTES];
    struct moon_str value, full = full_name(kind, name, len, text);
    if (held == NULL || full.ptr == NULL ||
        !moon_session_get(&held->session, full, &value))
        return FIELD_NONE;
    return look_at(value, out, number);
}

bool moon_session_field_at(moon_slot *slot, uint32_t index, int *kind,
                           moon_bytes *name, moon_bytes *value)
{
    const struct moon_held_session *held = held_by(slot);
    struct moon_session_field field;
    if (held == NULL || !moon_session_at(&held->session, index, &field) ||
        field.name.len < 2)
        return false;
    *kind = (unsigned char)field.name.ptr[0];
    *name = moon_bytes_of(moon_str(field.name.ptr + 2, field.name.len - 2));
    *value = moon_bytes_of(field.value);
    return true;
}

int moon_session_set_field(moon_slot *slot, int kind, const char *name,
                           size_t len, const char *value, size_t value_len)
{
    struct moon_held_session *held = held_by(slot);
    char text[NAME_MAX_BYTES];
    struct moon_str full = full_name(kind, name, len, text);
    if (held == NULL)
        return MOON_ECLOSED;
    if (full.ptr == NULL)
        return MOON_ETOO_BIG;
    return moon_session_set(&held->session, full, moon_str(value, value_len));
}

int moon_session_set_number(moon_slot *slot, int kind, const char *name,
                            size_t len, double value)
{
    char text[MOON_JSON_NUMBER_SIZE];
    if (!isfinite(value))
        return MOON_EINVAL;
    size_t text_len = moon_json_number_write(value, text);
    return moon_session_set_field(slot, kind, name, len, text, text_len);
}

int moon_session_set_plain(moon_slot *slot, int kind, const char *name,
                           size_t len, const char *value, size_t value_len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    char few[PLAIN_INLINE], *text = few;
    if (x == NULL)
        return MOON_ECLOSED;
    if (value_len + 2 > sizeof(few))
        text = value_len < MOON_SESSION_BYTES_MAX
                   ? moon_arena_alloc(&x->arena, value_len + 2)
                   : NULL;
    if (text == NULL)
        return value_len < MOON_SESSION_BYTES_MAX ? MOON_ENOMEM : MOON_EFULL;
    text[0] = '"';
    memcpy(text + 1, value, value_len);
    text[value_len + 1] = '"';
    return moon_session_set_field(slot, kind, name, len, text, value_len + 2);
}

int moon_session_begin_update(moon_slot *slot, const moon_bytes *names,
                              const moon_bytes *values, uint32_t count)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_held_session *held = held_by(slot);
    if (held == NULL)
        return MOON_ECLOSED;
    struct moon_session_field *fields =
        moon_arena_alloc(&x->arena, (count == 0 ? 1 : count) * sizeof(*fields));
    if (fields == NULL)
        return MOON_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        char text[NAME_MAX_BYTES];
        struct moon_str name = full_name('d', names[i].ptr, names[i].len, text);
        if (name.ptr == NULL)
            return MOON_ETOO_BIG;
        fields[i].name = moon_arena_copy(&x->arena, name);
        fields[i].value = MOON_STR_NONE;
        if (values[i].ptr != NULL)
            fields[i].value = moon_arena_copy(
                &x->arena, moon_str(values[i].ptr, values[i].len));
        if (fields[i].name.ptr == NULL ||
            (values[i].ptr != NULL && fields[i].value.ptr == NULL))
            return MOON_ENOMEM;
    }
    return wait_for(held, moon_session_compare_and_save(&held->session, fields,
                                                        count, on_ready, held));
}

/* ---- the whole ---- */

void moon_session_do(moon_slot *slot, int what)
{
    struct moon_held_session *held = held_by(slot);
    if (held == NULL)
        return;
    if (what == DO_CLEAR)
        moon_session_clear(&held->session);
    else if (what == DO_RENEW)
        moon_session_renew(&held->session);
    else if (what == DO_END)
        moon_session_destroy(&held->session);
    else if (what == DO_FORGET)
        moon_session_forget(&held->session);
}

int moon_session_set_owner(moon_slot *slot, const char *subject, size_t len)
{
    struct moon_held_session *held = held_by(slot);
    return held == NULL ? MOON_ECLOSED
                        : moon_session_set_subject(&held->session,
                                                   moon_str(subject, len));
}

void moon_session_owner(moon_slot *slot, moon_bytes *out)
{
    const struct moon_held_session *held = held_by(slot);
    *out = moon_bytes_of(held == NULL ? MOON_STR_NONE
                                      : moon_session_subject(&held->session));
}

void moon_session_keep(moon_slot *slot, double seconds)
{
    struct moon_held_session *held = held_by(slot);
    if (held != NULL)
        moon_session_remember(&held->session, (int64_t)(seconds * 1000));
}
