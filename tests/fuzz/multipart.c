/* multipart/form-data: bodies as they come (the first line of the input is the
 * Content-Type), and forms that are built, which must be found as built. */
#include "fuzz.h"

#include "http/form.h"
#include "http/multipart.h"

static const struct moon_form_limits limits = {20, 10, 1000};

/* ---- whatever comes ---- */

static void check_name(struct moon_str raw)
{
    char *text = malloc(raw.len + 1);
    FUZZ_CHECK(text != NULL);
    size_t len = moon_part_text(raw, text);
    FUZZ_CHECK(len <= raw.len);
    struct moon_str base = moon_part_base_name(text, len);
    FUZZ_CHECK(base.len <= len);
    FUZZ_CHECK(!moon_str_eq(base, MOON_STR(".")));
    FUZZ_CHECK(!moon_str_eq(base, MOON_STR("..")));
    for (size_t i = 0; i < base.len; i++) {
        unsigned char ch = (unsigned char)base.ptr[i];
        FUZZ_CHECK(ch >= 0x20 && ch != 0x7f && ch != '/' && ch != '\\');
    }
    free(text);
}

/* Is there a delimiter line in the data? Then it was cut at the wrong one. */
static bool holds_delimiter(const struct moon_multipart *m,
                            struct moon_str data)
{
    while (data.len > 0) {
        const char *at =
            memmem(data.ptr, data.len, m->delimiter, m->delimiter_len);
        if (at == NULL)
            return false;
        at += m->delimiter_len;
        data = moon_str(at, (size_t)(data.ptr + data.len - at));
        size_t skip = 0;
        while (skip < data.len &&
               (data.ptr[skip] == ' ' || data.ptr[skip] == '\t'))
            skip++;
        struct moon_str tail = moon_str(data.ptr + skip, data.len - skip);
        if (moon_str_starts(data, MOON_STR("--")) ||
            moon_str_starts(tail, MOON_STR("\r\n")))
            return true;
    }
    return false;
}

/* All parts lie in the body, one behind the other. */
static size_t check_parts(struct moon_str type, struct moon_str body)
{
    struct moon_multipart m;
    struct moon_part part;
    const char *whyz = NULL;
    size_t count = 0;
    if (moon_multipart_init(&m, type, body, &whyz) != MOON_OK) {
        FUZZ_CHECK(whyz != NULL);
        return 0;
    }
    const char *at = body.ptr;
    enum moon_err err;
    while ((err = moon_multipart_next(&m, &part, &whyz)) == MOON_OK) {
        FUZZ_CHECK(fuzz_within(part.data, body));
        FUZZ_CHECK(fuzz_within(part.name, body));
        FUZZ_CHECK(fuzz_within(part.filename, body));
        FUZZ_CHECK(fuzz_within(part.type, body));
        FUZZ_CHECK(part.name.ptr >= at);
        FUZZ_CHECK(part.data.ptr > part.name.ptr);
        FUZZ_CHECK(!holds_delimiter(&m, part.data));
        check_name(part.name);
        check_name(part.filename);
        at = part.data.ptr + part.data.len;
        count++;
    }
    FUZZ_CHECK(err == MOON_ENOT_FOUND || whyz != NULL);
    return err == MOON_ENOT_FOUND ? count : 0;
}

static void check_form(struct moon_str type, struct moon_str body, size_t parts)
{
    struct moon_form_error error = {0};
    struct moon_form *form = moon_form_read(type, body, &limits, &error);
    if (form == NULL) {
        FUZZ_CHECK(error.status == 400 || error.status == 413);
        FUZZ_CHECK(error.textz[0] != '\0');
        return;
    }
    uint32_t fields = 0;
    FUZZ_CHECK(form->count <= parts);
    for (uint32_t i = 0; i < form->count; i++) {
        const struct moon_form_part *part = &form->parts[i];
        FUZZ_CHECK(part->from <= body.len &&
                   part->len <= body.len - part->from);
        FUZZ_CHECK(!part->is_file || part->len <= limits.max_file_bytes);
        fields += !part->is_file;
    }
    FUZZ_CHECK(fields <= limits.max_fields);
    FUZZ_CHECK(form->count - fields <= limits.max_files);
    free(form);
}

/* ---- what we build ---- */

enum { PARTS = 5 };

struct built {
    struct moon_str name, filename, data;
    bool is_file;
};

/* As browsers write names. */
static void add_quoted(struct moon_buf *to, struct moon_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"')
            moon_buf_addz(to, "%22");
        else if (text.ptr[i] == '\r')
            moon_buf_addz(to, "%0D");
        else if (text.ptr[i] == '\n')
            moon_buf_addz(to, "%0A");
        else
            moon_buf_add_char(to, text.ptr[i]);
    }
}

/* Can be written so that it comes back, in a header that is not too large?
 * Browsers escape neither '%' nor '\'. */
static bool is_writable(struct moon_str name)
{
    if (name.len > MOON_PART_HEADER_BYTES / 10)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char ch = (unsigned char)name.ptr[i];
        if (ch == '%' || ch == '\\' || ch == 0x7f ||
            (ch < 0x20 && ch != '\r' && ch != '\n'))
            return false;
    }
    return true;
}

static size_t build(struct fuzz_bytes *bytes, struct built parts[PARTS],
                    struct moon_buf *to)
{
    size_t count = 0;
    while (fuzz_left(bytes) > 0 && count < PARTS) {
        struct built *part = &parts[count];
        part->is_file = fuzz_byte(bytes) % 2 == 1;
        part->name = fuzz_until(bytes, '\0');
        part->filename = fuzz_until(bytes, '\0');
        part->data = fuzz_until(bytes, '\0');
        if (!is_writable(part->name) || !is_writable(part->filename) ||
            memmem(part->data.ptr, part->data.len, "--b", 3) != NULL)
            continue;
        moon_buf_addz(to, "--b\r\nContent-Disposition: form-data; name=\"");
        add_quoted(to, part->name);
        if (part->is_file) {
            moon_buf_addz(to, "\"; filename=\"");
            add_quoted(to, part->filename);
        }
        moon_buf_addz(to, "\"\r\n\r\n");
        moon_buf_add_str(to, part->data);
        moon_buf_addz(to, "\r\n");
        count++;
    }
    moon_buf_addz(to, "--b--");
    return count;
}

static void check_text(struct moon_str raw, struct moon_str expected)
{
    char *text = malloc(raw.len + 1);
    FUZZ_CHECK(text != NULL);
    size_t len = moon_part_text(raw, text);
    FUZZ_CHECK(moon_str_eq(moon_str(text, len), expected));
    free(text);
}

static void check_built(struct fuzz_bytes *bytes)
{
    struct built parts[PARTS];
    struct moon_buf text = {0};
    size_t count = build(bytes, parts, &text), i = 0;
    struct moon_multipart m;
    struct moon_part part;
    const char *whyz = "";
    if (count > 0) {
        struct moon_str body = fuzz_copy(moon_buf_str(&text));
        FUZZ_CHECK(
            moon_multipart_init(&m, MOON_STR("multipart/form-data; boundary=b"),
                                body, &whyz) == MOON_OK);
        for (; moon_multipart_next(&m, &part, &whyz) == MOON_OK; i++) {
            FUZZ_CHECK(i < count);
            check_text(part.name, parts[i].name);
            FUZZ_CHECK(part.is_file == parts[i].is_file);
            if (part.is_file)
                check_text(part.filename, parts[i].filename);
            FUZZ_CHECK(moon_str_eq(part.data, parts[i].data));
        }
        FUZZ_CHECK(i == count);
        fuzz_free(body);
    }
    moon_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    struct moon_str type = fuzz_copy(fuzz_until(&bytes, '\n'));
    struct moon_str body = fuzz_copy(fuzz_str(bytes.at, fuzz_left(&bytes)));
    check_form(type, body, check_parts(type, body));
    fuzz_free(type);
    fuzz_free(body);
    bytes = fuzz_bytes(data, size);
    check_built(&bytes);
    return 0;
}
