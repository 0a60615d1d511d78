#include "http/form.h"

#include "http/multipart.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void say(struct moon_form_error *error, uint16_t status, const char *fmt,
                ...) MOON_PRINTF(3, 4);

static void say(struct moon_form_error *error, uint16_t status, const char *fmt,
                ...)
{
    va_list args;
    va_start(args, fmt);
    error->status = status;
    (void)vsnprintf(error->textz, sizeof(error->textz), fmt, args);
    va_end(args);
}

/* What a browser sends for a file input that nobody used. */
static bool is_unused(const struct moon_part *part)
{
    return part->is_file && part->filename.len == 0 && part->data.len == 0;
}

struct counts {
    uint32_t parts, fields, files;
    size_t text_bytes;
};

static bool within(const struct counts *counts, const struct moon_part *part,
                   const struct moon_form_limits *limits,
                   struct moon_form_error *error)
{
    if (counts->fields > limits->max_fields)
        say(error, 413, "the form has more than %u fields", limits->max_fields);
    else if (counts->files > limits->max_files)
        say(error, 413, "the form has more than %u files", limits->max_files);
    else if (part->is_file && part->data.len > limits->max_file_bytes)
        say(error, 413, "the file in field \"%.*s\" is larger than %llu bytes",
            part->name.len > 60 ? 60 : (int)part->name.len, part->name.ptr,
            (unsigned long long)limits->max_file_bytes);
    else
        return true;
    return false;
}

/* Walks all parts; with `form` it fills that, else it counts and checks. */
static bool walk(struct moon_multipart m, const struct moon_form_limits *limits,
                 struct counts *counts, struct moon_form *form,
                 struct moon_form_error *error)
{
    struct moon_part part;
    const char *whyz = "";
    enum moon_err err;
    char *text = form != NULL ? (char *)&form->parts[form->count] : NULL;
    while ((err = moon_multipart_next(&m, &part, &whyz)) == MOON_OK) {
        if (is_unused(&part))
            continue;
        if (form != NULL) {
            struct moon_form_part *to = &form->parts[counts->parts];
            size_t len = moon_part_text(part.name, text);
            to->name = moon_str(text, len);
            text += len;
            len = moon_part_text(part.filename, text);
            to->filename = moon_part_base_name(text, len);
            text += len;
            to->type = part.type;
            to->from = (uint64_t)(part.data.ptr - m.body.ptr);
            to->len = part.data.len;
            to->is_file = part.is_file;
            if (part.type.len > 0) {
                memcpy(text, part.type.ptr, part.type.len);
                to->type.ptr = text;
                text += part.type.len;
            }
        }
        counts->parts++;
        counts->fields += !part.is_file;
        counts->files += part.is_file;
        counts->text_bytes += part.name.len + part.filename.len + part.type.len;
        if (!within(counts, &part, limits, error))
            return false;
    }
    if (err != MOON_ENOT_FOUND)
        say(error, 400, "%s", whyz);
    return err == MOON_ENOT_FOUND;
}

struct moon_form *moon_form_read(struct moon_str content_type,
                                 struct moon_str body,
                                 const struct moon_form_limits *limits,
                                 struct moon_form_error *error)
{
    struct moon_multipart m;
    struct counts counts = {0};
    const char *whyz;
    if (moon_multipart_init(&m, content_type, body, &whyz) != MOON_OK) {
        say(error, 400, "%s", whyz);
        return NULL;
    }
    if (!walk(m, limits, &counts, NULL, error))
        return NULL;
    struct moon_form *form =
        malloc(sizeof(*form) + counts.parts * sizeof(form->parts[0]) +
               counts.text_bytes);
    if (form == NULL) {
        say(error, 503, "out of memory");
        return NULL;
    }
    form->count = counts.parts;
    counts = (struct counts){0};
    (void)walk(m, limits, &counts, form, error);
    return form;
}
