#include "vm/vm_api.h"

#include "http/problem.h"
#include "http/query.h"
#include "http/static_file.h"
#include "http/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void moon_api_response_keep(void)
{
}

void moon_res_set_status(moon_slot *slot, int status)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x != NULL)
        x->res.status = (uint16_t)status;
}

int moon_res_get_status(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL ? 0 : x->res.status;
}

int moon_res_set(moon_slot *slot, const char *name, size_t name_len,
                 const char *value, size_t len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    return moon_response_set(&x->res, &x->arena, moon_str(name, name_len),
                             moon_str(value, len));
}

int moon_res_add(moon_slot *slot, const char *name, size_t name_len,
                 const char *value, size_t len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    return moon_response_add(&x->res, &x->arena, moon_str(name, name_len),
                             moon_str(value, len));
}

bool moon_res_get(moon_slot *slot, const char *name, size_t len, uint32_t nth,
                  moon_bytes *out)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str value;
    if (x == NULL ||
        !moon_response_get(&x->res, moon_str(name, len), nth, &value))
        return false;
    *out = moon_bytes_of(value);
    return true;
}

void moon_res_drop_content(moon_slot *slot)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x != NULL)
        moon_response_drop_content(&x->res);
}

static int respond(struct moon_exchange *x, int status, struct moon_str body,
                   struct moon_str type)
{
    if (status != 0)
        x->res.status = (uint16_t)status;
    else if (x->res.status == 0)
        x->res.status = 200;
    struct moon_out_body out = {
        .bytes = body, .content_type = type, .file_fd = -1};
    return x->ops->respond(x, &out);
}

int moon_res_send(moon_slot *slot, int status, const char *body, size_t len,
                  const char *type, size_t type_len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    return respond(x, status, moon_str(body, len), moon_str(type, type_len));
}

int moon_res_text(moon_slot *slot, int status, const char *body, size_t len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    return respond(x, status, moon_str(body, len),
                   MOON_STR("text/plain; charset=utf-8"));
}

int moon_res_problem(moon_slot *slot, int status, const char *detail,
                     size_t detail_len, const char *details_json,
                     size_t json_len)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    struct moon_str accept = MOON_STR_NONE;
    moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    struct moon_buf body = {0};
    struct moon_str type = moon_problem_write(
        status, accept, moon_str(detail, detail_len),
        moon_str(details_json, json_len), x->request_id, &body);
    int err = body.failed ? MOON_ENOMEM
                          : respond(x, status, moon_buf_str(&body), type);
    moon_buf_deinit(&body);
    return err;
}

bool moon_res_started(moon_slot *slot)
{
    const struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL || x->state >= MOON_X_STREAM;
}

int moon_res_cookie(moon_slot *slot, const moon_bytes *texts, double max_age,
                    bool secure, bool http_only, moon_bytes *out)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    struct moon_set_cookie cookie = {
        .name = moon_str(texts[0].ptr, texts[0].len),
        .value = moon_str(texts[1].ptr, texts[1].len),
        .path = moon_str(texts[2].ptr, texts[2].len),
        .domain = moon_str(texts[3].ptr, texts[3].len),
        .same_site = moon_str(texts[4].ptr, texts[4].len),
        .max_age_s = max_age < 0 ? -1 : (int64_t)max_age,
        .secure = secure,
        .http_only = http_only,
    };
    static _Thread_local char error[160];
    struct moon_buf value = {0};
    enum moon_err err =
        moon_set_cookie_write(&cookie, &value, error, sizeof error);
    if (err != MOON_OK)
        *out = moon_bytes_of(moon_strz(error));
    else if (value.failed)
        err = MOON_ENOMEM;
    else
        err = moon_response_add(&x->res, &x->arena, MOON_STR("Set-Cookie"),
                                moon_buf_str(&value));
    moon_buf_deinit(&value);
    return err;
}

/* ---- files ---- */

/* Of the file whose head is being made. */
static enum moon_err describe(struct moon_exchange *x, struct moon_str path,
                              double max_age, struct moon_out_body *out)
{
    out->content_type = moon_content_type_of(path);
    if (max_age < 0)
        return MOON_OK;
    char text[48];
    int len = snprintf(text, sizeof text, "max-age=%.0f", max_age);
    return moon_response_set(&x->res, &x->arena, MOON_STR("Cache-Control"),
                             moon_str(text, (size_t)len));
}

static enum moon_err send_open_file(struct moon_exchange *x,
                                    struct moon_static_file *file,
                                    struct moon_str path, double max_age)
{
    struct moon_static_plan plan;
    struct moon_out_body out = {.file_fd = -1};
    enum moon_err err =
        moon_static_plan(file, &x->req, &x->res, &x->arena, &plan);
    if (err == MOON_OK)
        err = describe(x, path, max_age, &out);
    if (err != MOON_OK) {
        close(file->fd);
        return err;
    }
    x->res.status = (uint16_t)plan.status;
    if (plan.status == 200 || plan.status == 206) {
        out.file_fd = file->fd; /* transferred */
        out.file_from = plan.from;
        out.file_length = plan.length;
    } else {
        close(file->fd);
        out.content_type = MOON_STR_NONE;
    }
    file->fd = -1;
    return x->ops->respond(x, &out);
}

int moon_res_file(moon_slot *slot, const char *rootz, const char *path,
                  size_t len, double max_age)
{
    struct moon_exchange *x = moon_slot_x(slot);
    if (x == NULL)
        return MOON_ECLOSED;
    int root = open(rootz, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno == ENOENT || errno == ENOTDIR ? MOON_ENOT_FOUND
                                                   : MOON_ESYS;
    struct moon_static_file file;
    enum moon_err err =
        moon_static_open(root, moon_str(path, len), MOON_STR_NONE, &file);
    close(root);
    if (err == MOON_EAGAIN) /* a directory */
        return MOON_ENOT_FOUND;
    if (err != MOON_OK)
        return err;
    return send_open_file(x, &file, moon_str(path, len), max_age);
}
