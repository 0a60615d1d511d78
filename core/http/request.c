#include "http/request.h"

bool moon_request_header(const struct moon_request *req, struct moon_str name,
                         uint32_t nth, struct moon_str *out)
{
    for (uint32_t i = 0; i < req->field_count; i++) {
        const struct moon_field *field = &req->fields[i];
        if (field->name.len != name.len)
            continue;
        if (moon_str_eq_nocase(moon_request_str(req, field->name), name) &&
            nth-- == 0) {
            *out = moon_request_str(req, field->value);
            return true;
        }
    }
    return false;
}
