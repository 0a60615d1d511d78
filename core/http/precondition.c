#include "http/precondition.h"

#include "http/negotiate.h"

bool moon_condition_lists(const struct moon_request *req, const char *namez,
                          struct moon_str etag, bool weak)
{
    struct moon_str value;
    for (uint32_t n = 0; moon_request_header(req, moon_strz(namez), n, &value);
         n++) {
        if (etag.len > 0 && moon_etag_listed(value, etag, weak))
            return true;
    }
    return false;
}

/* The date in a field, if the other side of the comparison is known. */
static bool date_of(const struct moon_request *req, struct moon_str name,
                    const struct moon_validators *now, time_t *out)
{
    struct moon_str value;
    return now->has_mtime && moon_request_header(req, name, 0, &value) &&
           moon_http_date_parse(value, out);
}

bool moon_precondition_fails(const struct moon_request *req,
                             const struct moon_validators *now)
{
    struct moon_str value;
    time_t since;
    if (moon_request_header(req, MOON_STR("If-Match"), 0, &value))
        return !moon_condition_lists(req, "If-Match", now->etag, false);
    return date_of(req, MOON_STR("If-Unmodified-Since"), now, &since) &&
           now->mtime > since;
}

bool moon_is_unchanged(const struct moon_request *req,
                       const struct moon_validators *now)
{
    struct moon_str value;
    time_t since;
    if (req->method != MOON_METHOD_GET && req->method != MOON_METHOD_HEAD)
        return false;
    if (moon_request_header(req, MOON_STR("If-None-Match"), 0, &value))
        return moon_condition_lists(req, "If-None-Match", now->etag, true);
    return date_of(req, MOON_STR("If-Modified-Since"), now, &since) &&
           now->mtime <= since;
}
