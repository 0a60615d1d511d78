#include "net/broken.h"

#include "base/log.h"
#include "http/problem.h"
#include "vm/dev_report.h"

void moon_broken_set(struct moon_broken *broken, struct moon_str text,
                     struct moon_str facts)
{
    enum moon_err err = MOON_OK;
    moon_buf_clear(&broken->text);
    moon_buf_clear(&broken->facts);
    moon_buf_clear(&broken->page);
    if (text.len == 0)
        return;
    moon_buf_add_str(&broken->text, text);
    moon_buf_add_str(&broken->facts, facts);
    if (facts.len == 0)
        err = moon_dev_facts(text, NULL, &broken->facts);
    if (err == MOON_OK)
        err = moon_dev_page(moon_buf_str(&broken->facts), &broken->page);
    if (err != MOON_OK) {
        moon_log(MOON_LOG_WARN, "no error page: %s", moon_err_text(err));
        moon_buf_clear(&broken->facts);
        moon_buf_clear(&broken->page);
    }
}

void moon_broken_deinit(struct moon_broken *broken)
{
    moon_buf_deinit(&broken->text);
    moon_buf_deinit(&broken->facts);
    moon_buf_deinit(&broken->page);
}

/* The application's own policy may forbid the page's style. */
static enum moon_err set_headers(struct moon_exchange *x)
{
    enum moon_err err = moon_response_set(
        &x->res, &x->arena, MOON_STR("Cache-Control"), MOON_STR("no-store"));
    if (err == MOON_OK)
        err = moon_response_set(&x->res, &x->arena,
                                MOON_STR("Content-Security-Policy"),
                                moon_strz(moon_dev_policy));
    return err;
}

void moon_broken_answer(struct moon_exchange *x,
                        const struct moon_broken *broken)
{
    struct moon_buf text = {0};
    struct moon_str accept = MOON_STR_NONE;
    struct moon_out_body body = {.file_fd = -1};
    (void)moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    if (broken->page.len > 0 && moon_problem_prefers_html(accept)) {
        body.bytes = moon_buf_str(&broken->page);
        body.content_type = MOON_STR("text/html; charset=utf-8");
    } else {
        body.content_type = moon_problem_write(
            500, accept, moon_buf_str(&broken->text),
            moon_buf_str(&broken->facts), x->request_id, &text);
        body.bytes = moon_buf_str(&text);
    }
    x->res.status = 500;
    if (set_headers(x) != MOON_OK)
        moon_log(MOON_LOG_WARN, "no memory for the headers of an error");
    (void)x->ops->respond(x, &body);
    moon_buf_deinit(&text);
}
