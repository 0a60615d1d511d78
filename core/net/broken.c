#include "net/broken.h"

#include "http/problem.h"

static void write_page(struct moon_buf *out, struct moon_str error)
{
    struct moon_str rest;
    struct moon_str first = moon_str_cut(error, '\n', &rest);
    moon_buf_addz(out,
                  "<!doctype html>\n<html lang=\"en\"><head>"
                  "<meta charset=\"utf-8\"><title>The code does not load"
                  "</title>\n<style>body { font: 16px/1.5 system-ui, "
                  "sans-serif; margin: 2em auto; max-width: 60em; padding: 0 "
                  "1em } pre { background: #f4f4f6; padding: 1em; overflow: "
                  "auto }</style></head><body>\n<h1>The code does not "
                  "load</h1>\n<p><b>");
    moon_buf_add_html(out, first);
    moon_buf_addz(out, "</b></p>\n<pre>");
    moon_buf_add_html(out, rest);
    moon_buf_addz(out, "</pre>\n<p>Shown because the server runs with --dev. "
                       "Save a version that loads, and reload this page.</p>"
                       "\n</body></html>\n");
}

void moon_broken_answer(struct moon_exchange *x, struct moon_str error)
{
    struct moon_buf text = {0};
    struct moon_str accept = MOON_STR_NONE;
    (void)moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    struct moon_str type = moon_problem_write(500, accept, error, MOON_STR_NONE,
                                              x->request_id, &text);
    if (moon_str_starts(type, MOON_STR("text/html"))) {
        text.len = 0;
        write_page(&text, error);
    }
    struct moon_out_body body = {
        .bytes = moon_buf_str(&text), .content_type = type, .file_fd = -1};
    x->res.status = 500;
    (void)x->ops->respond(x, &body);
    moon_buf_deinit(&text);
}
