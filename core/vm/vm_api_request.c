#include "vm/vm_api.h"

#include "http/problem.h"
#include "http/query.h"
#include "vm/quarantine_gate.h"
#include "vm/task.h"

#include <errno.h>
#include <unistd.h>

enum req_text {
    TEXT_METHOD = 1,
    TEXT_PATH,
    TEXT_QUERY,
    TEXT_ROUTE,
    TEXT_REQUEST_ID,
    TEXT_IP,
    TEXT_SCHEME,
    TEXT_HOST,
};

enum body_type {
    BODY_NONE,
    BODY_JSON,
    BODY_URLENCODED,
    BODY_MULTIPART,
    BODY_OTHER,
};

void moon_api_request_keep(void)
{
}

static struct moon_str text_of(struct moon_exchange *x, int what)
{
    switch (what) {
    case TEXT_METHOD:
        return moon_request_str(&x->req, x->req.method_text);
    case TEXT_PATH:
        return x->path;
    case TEXT_QUERY:
        return moon_request_str(&x->req, x->req.query);
    case TEXT_ROUTE:
        return x->route == NULL ? MOON_STR_NONE : x->route->pattern;
    case TEXT_REQUEST_ID:
        return x->request_id;
    case TEXT_IP:
        return moon_exchange_ip(x);
    case TEXT_SCHEME:
        return moon_exchange_client(x)->scheme;
    case TEXT_HOST:
        return moon_exchange_client(x)->host;
    default:
        return MOON_STR_NONE;
    }
}

void moon_req_text(moon_slot *slot, int what, moon_bytes *out)
{
    struct moon_exchange *x = moon_slot_x(slot);
    *out = moon_bytes_of(x == NULL ? MOON_STR_NONE : text_of(x, what));
}

int moon_req_param(moon_slot *slot, const char *name, size_t len,
                   moon_bytes *out, double *number)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || x->match.route == MOON_NO_ROUTE)
        return 0;
    for (uint32_t i = 0; i < x->match.param_count; i++) {
        const struct moon_param *param = &x->match.params[i];
        if (!moon_str_eq(param->name, moon_str(name, len)))
            continue;
        *out = moon_bytes_of(param->value);
        if (param->type != MOON_PARAM_INT)
            return 1;
        double value = 0; /* up to 15 digits: exact */
        for (size_t at = 0; at < param->value.len; at++)
            value = value * 10 + (param->value.ptr[at] - '0');
        *number = value;
        return 2;
    }
    return 0;
}

bool moon_req_header(moon_slot *slot, const char *name, size_t len,
                     uint32_t nth, moon_bytes *out)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str value;
    if (x == NULL ||
        !moon_request_header(&x->req, moon_str(name, len), nth, &value))
        return false;
    *out = moon_bytes_of(value);
    return true;
}

bool moon_req_header_at(moon_slot *slot, uint32_t index, moon_bytes *name,
                        moon_bytes *value)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || index >= x->req.field_count)
        return false;
    const struct moon_field *field = &x->req.fields[index];
    *name = moon_bytes_of(moon_request_str(&x->req, field->name));
    *value = moon_bytes_of(moon_request_str(&x->req, field->value));
    return true;
}

bool moon_req_query_next(moon_slot *slot, moon_cursor *cursor, moon_bytes *name,
                         moon_bytes *value)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return false;
    struct moon_str rest = moon_str(cursor->ptr, cursor->len);
    if (!cursor->started) {
        rest = moon_request_str(&x->req, x->req.query);
        cursor->started = true;
    }
    struct moon_str found, text;
    if (!moon_query_next(&rest, &x->arena, &found, &text) || found.ptr == NULL)
        return false;
    cursor->ptr = rest.ptr;
    cursor->len = rest.len;
    *name = moon_bytes_of(found);
    *value = moon_bytes_of(text);
    return true;
}

bool moon_req_query(moon_slot *slot, const char *name, size_t len, uint32_t nth,
                    moon_bytes *out)
{
    moon_cursor cursor = {0};
    moon_bytes found;
    while (moon_req_query_next(slot, &cursor, &found, out)) {
        if (found.len == len && memcmp(found.ptr, name, len) == 0 && nth-- == 0)
            return true;
    }
    return false;
}

bool moon_req_cookie_next(moon_slot *slot, moon_cursor *cursor,
                          moon_bytes *name, moon_bytes *value)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return false;
    struct moon_str rest = moon_str(cursor->ptr, cursor->len);
    struct moon_str found, text;
    for (;;) {
        if (rest.len > 0 && moon_cookie_next(&rest, &found, &text))
            break;
        /* HTTP/2 gateways may split Cookie into several fields. */
        if (!moon_request_header(&x->req, MOON_STR("cookie"), cursor->field,
                                 &rest))
            return false;
        cursor->field++;
    }
    cursor->ptr = rest.ptr;
    cursor->len = rest.len;
    *name = moon_bytes_of(found);
    *value = moon_bytes_of(text);
    return true;
}

bool moon_req_cookie(moon_slot *slot, const char *name, size_t len,
                     moon_bytes *out)
{
    moon_cursor cursor = {0};
    moon_bytes found;
    while (moon_req_cookie_next(slot, &cursor, &found, out)) {
        if (found.len == len && memcmp(found.ptr, name, len) == 0)
            return true;
    }
    return false;
}

int moon_req_body_type(moon_slot *slot)
{
    static const struct moon_str plus_json = {"+json", 5};
    const struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str value, rest;
    if (x == NULL ||
        !moon_request_header(&x->req, MOON_STR("content-type"), 0, &value))
        return BODY_NONE;
    struct moon_str type = moon_str_trim(moon_str_cut(value, ';', &rest));
    if (moon_str_eq_nocase(type, MOON_STR("application/json")))
        return BODY_JSON;
    if (moon_str_eq_nocase(type, MOON_STR("application/x-www-form-urlencoded")))
        return BODY_URLENCODED;
    if (moon_str_eq_nocase(type, MOON_STR("multipart/form-data")))
        return BODY_MULTIPART;
    size_t tail = type.len < plus_json.len ? 0 : type.len - plus_json.len;
    struct moon_str suffix = moon_str(type.ptr + tail, type.len - tail);
    return moon_str_eq_nocase(suffix, plus_json) ? BODY_JSON
           : type.len == 0                       ? BODY_NONE
                                                 : BODY_OTHER;
}

int moon_req_body(moon_slot *slot, moon_bytes *out)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || x->body.mode == MOON_BODY_STREAM || !x->body.complete)
        return 0;
    if (x->body.fd >= 0) {
        out->ptr = NULL;
        out->len = (size_t)x->body.size;
        return 2;
    }
    *out = moon_bytes_of(x->body.bytes);
    return 1;
}

/* As much as there is: the kernel may give less at a time. */
static int64_t pread_all(int fd, char *to, size_t len, off_t from)
{
    size_t have = 0;
    while (have < len) {
        ssize_t got = pread(fd, to + have, len - have, from + (off_t)have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (int64_t)have;
}

int64_t moon_req_body_pread(moon_slot *slot, uint64_t from, char *to,
                            size_t len)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || !x->body.complete)
        return -1;
    if (x->body.fd < 0) {
        struct moon_str all = x->body.bytes;
        if (from >= all.len)
            return 0;
        size_t left = all.len - (size_t)from;
        size_t count = len < left ? len : left;
        memcpy(to, all.ptr + from, count);
        return (int64_t)count;
    }
    return pread_all(x->body.fd, to, len, (off_t)from);
}

bool moon_req_prefers_html(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str accept = MOON_STR_NONE;
    if (x == NULL)
        return false;
    (void)moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    return moon_problem_prefers_html(accept);
}

int moon_req_closing(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL || x->client_gone)
        return 1;
    return x->draining ? 2 : 0;
}

int moon_req_scope(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL ? 0 : x->scope;
}

uint32_t moon_req_current(void)
{
    const struct moon_task *task = moon_task_running();
    return task == NULL ? 0 : task->slot;
}

bool moon_req_quarantined(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x != NULL && moon_quarantine_gate_refused(x);
}

void moon_req_failed(moon_slot *slot, const char *kind, size_t kind_len,
                     const char *place, size_t place_len, const char *message,
                     size_t len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x != NULL)
        moon_quarantine_gate_failed(x, moon_str(kind, kind_len),
                                    moon_str(place, place_len),
                                    moon_str(message, len));
}

int moon_req_auto_status(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL ? 0 : x->auto_status;
}
