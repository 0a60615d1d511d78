#include "http/problem.h"

#include "http/negotiate.h"
#include "http/status.h"

/* Most bodies fit: the buffer grows once. */
enum { ORDINARY_BYTES = 384 };

static void write_html(int status, struct moon_str reason,
                       struct moon_str detail, struct moon_str request_id,
                       struct moon_buf *out)
{
    moon_buf_printf(out,
                    "<!doctype html>\n<html lang=\"en\">\n"
                    "<meta charset=\"utf-8\">\n"
                    "<title>%d %.*s</title>\n<h1>%d %.*s</h1>\n",
                    status, MOON_STR_ARG(reason), status, MOON_STR_ARG(reason));
    if (detail.len > 0) {
        moon_buf_addz(out, "<p>");
        moon_buf_add_html(out, detail);
        moon_buf_addz(out, "</p>\n");
    }
    if (request_id.len > 0) {
        moon_buf_addz(out, "<p><small>Request ");
        moon_buf_add_html(out, request_id);
        moon_buf_addz(out, "</small></p>\n");
    }
}

/* The reason is ours and an id has only letters, digits and ._-: neither needs
 * escaping. */
static void write_json(int status, struct moon_str reason,
                       struct moon_str detail, struct moon_str details_json,
                       struct moon_str request_id, struct moon_buf *out)
{
    (void)moon_buf_reserve(out, ORDINARY_BYTES + details_json.len);
    moon_buf_add_str(out, MOON_STR("{\"type\":\"about:blank\",\"title\":\""));
    moon_buf_add_str(out, reason);
    moon_buf_add_str(out, MOON_STR("\",\"status\":"));
    moon_buf_add_u64(out, (uint64_t)status);
    if (detail.len > 0) {
        moon_buf_add_str(out, MOON_STR(",\"detail\":"));
        moon_buf_add_json(out, detail);
    }
    if (details_json.len > 0) {
        moon_buf_add_str(out, MOON_STR(",\"details\":"));
        moon_buf_add_str(out, details_json);
    }
    if (request_id.len > 0) {
        moon_buf_add_str(out, MOON_STR(",\"request_id\":\""));
        moon_buf_add_str(out, request_id);
        moon_buf_add_str(out, MOON_STR("\""));
    }
    moon_buf_add_str(out, MOON_STR("}\n"));
}

bool moon_problem_prefers_html(struct moon_str accept)
{
    enum { PROBLEM, JSON, HTML };
    static const struct moon_str offers[] = {
        [PROBLEM] = {"application/problem+json", 24},
        [JSON] = {"application/json", 16},
        [HTML] = {"text/html", 9},
    };
    return moon_accept_best(accept, offers, MOON_COUNT(offers)) == HTML;
}

struct moon_str moon_problem_write(int status, struct moon_str accept,
                                   struct moon_str detail,
                                   struct moon_str details_json,
                                   struct moon_str request_id,
                                   struct moon_buf *out)
{
    struct moon_str reason = moon_status_reason(status);
    if (moon_problem_prefers_html(accept)) {
        write_html(status, reason, detail, request_id, out);
        return MOON_STR("text/html; charset=utf-8");
    }
    write_json(status, reason, detail, details_json, request_id, out);
    return MOON_STR("application/problem+json");
}
