/* The parts of a multipart/form-data body, listed: names and where the bytes
 * are. Pure: may run on any thread. One allocation, owned by the caller. */
#ifndef MOON_HTTP_FORM_H
#define MOON_HTTP_FORM_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

struct moon_form_limits {
    uint32_t max_fields, max_files;
    uint64_t max_file_bytes; /* UINT64_MAX: any */
};

struct moon_form_part {
    struct moon_str name, filename, type; /* decoded; in the form */
    uint64_t from, len;                   /* of its data in the body */
    bool is_file; /* a file input without a file is no part at all */
};

struct moon_form {
    uint32_t count;
    struct moon_form_part parts[];
};

struct moon_form_error {
    uint16_t status; /* 400, 413 or 415; 503: no memory */
    char textz[160];
};

/* NULL, and `error` says why. To be freed with free(). */
MOON_MUST_CHECK struct moon_form *moon_form_read(
    struct moon_str content_type, struct moon_str body,
    const struct moon_form_limits *limits, struct moon_form_error *error);

#endif
