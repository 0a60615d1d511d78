/* Range, If-Range, the other If-* fields and dates, for a file of some size:
 * the part that is sent lies in the file, whatever was asked for. The first
 * byte chooses the size; then lines, by their first letter a field each. */
#include "fields.h"

#include "http/static_file.h"

static const struct {
    char letter;
    struct moon_str name;
} fields[] = {
    {'r', MOON_STR("Range")},
    {'i', MOON_STR("If-Range")},
    {'m', MOON_STR("If-Match")},
    {'n', MOON_STR("If-None-Match")},
    {'u', MOON_STR("If-Unmodified-Since")},
    {'s', MOON_STR("If-Modified-Since")},
};

static void read_lines(struct fuzz_fields *lines, struct fuzz_bytes *bytes)
{
    while (fuzz_left(bytes) > 0 && !fuzz_fields_full(lines)) {
        char letter = (char)fuzz_byte(bytes);
        struct moon_str value = moon_str_trim(fuzz_until(bytes, '\n'));
        for (size_t i = 0; i < MOON_COUNT(fields); i++) {
            if (fields[i].letter == letter)
                fuzz_fields_add(lines, fields[i].name, value);
        }
    }
}

/* Dates that are read are written as the same second, and read again. */
static void check_date(struct moon_str text)
{
    time_t when, again;
    char written[30];
    struct moon_str copy = fuzz_copy(text);
    bool good = moon_http_date_parse(copy, &when);
    fuzz_free(copy);
    if (!good)
        return;
    moon_http_date_write(when, written);
    FUZZ_CHECK(written[29] == '\0' && strlen(written) == 29);
    if (when > 253402300799)
        return; /* a leap second at the end of time */
    FUZZ_CHECK(moon_http_date_parse(moon_strz(written), &again));
    FUZZ_CHECK(again == when);
}

static void check_range(struct moon_str text, uint64_t size)
{
    struct moon_range range = {0};
    if (moon_range_parse(text, size, &range) != MOON_RANGE_ONE)
        return;
    FUZZ_CHECK(range.length > 0);
    FUZZ_CHECK(range.from < size && range.length <= size - range.from);
}

static bool has(const struct moon_request *req, const char *namez)
{
    struct moon_str value;
    return moon_request_header(req, moon_strz(namez), 0, &value);
}

static void check_plan(const struct moon_static_file *file,
                       const struct moon_request *req)
{
    struct moon_arena arena;
    struct moon_response res;
    struct moon_static_plan plan;
    struct moon_str value;
    moon_arena_init(&arena, NULL, 0);
    moon_response_init(&res, NULL, 0);
    FUZZ_CHECK(moon_static_plan(file, req, &res, &arena, &plan) == MOON_OK);
    bool content_range =
        moon_response_get(&res, MOON_STR("Content-Range"), 0, &value);
    FUZZ_CHECK(content_range == (plan.status == 206 || plan.status == 416));
    switch (plan.status) {
    case 200:
        FUZZ_CHECK(plan.from == 0 && plan.length == file->size);
        break;
    case 206:
        FUZZ_CHECK(has(req, "Range") && plan.length > 0);
        FUZZ_CHECK(plan.from < file->size &&
                   plan.length <= file->size - plan.from);
        break;
    case 304:
        FUZZ_CHECK(has(req, "If-None-Match") || has(req, "If-Modified-Since"));
        break;
    case 412:
        FUZZ_CHECK(has(req, "If-Match") || has(req, "If-Unmodified-Since"));
        break;
    case 416:
        FUZZ_CHECK(has(req, "Range"));
        break;
    default:
        fuzz_fail(__FILE__, __LINE__, "a status of the five");
    }
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0,  1,          2,
                                     10, 4294967296, (uint64_t)INT64_MAX};
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    struct moon_static_file file = {
        .fd = -1,
        .mtime = 784111777,
        .size = sizes[fuzz_below(&bytes, MOON_COUNT(sizes))]};
    struct fuzz_fields lines = {0};
    (void)snprintf(file.etag, sizeof(file.etag), "\"a-1-2\"");
    read_lines(&lines, &bytes);
    struct moon_str text = fuzz_copy(moon_buf_str(&lines.text));
    struct moon_request req = {.base = text.ptr,
                               .method = MOON_METHOD_GET,
                               .field_count = lines.count,
                               .fields = lines.list};
    check_plan(&file, &req);
    for (uint32_t i = 0; i < lines.count; i++) {
        struct moon_str value = moon_request_str(&req, lines.list[i].value);
        check_date(value);
        check_range(value, file.size);
        check_range(value, UINT64_MAX);
        (void)moon_etag_listed(value, moon_strz(file.etag), true);
    }
    fuzz_free(text);
    fuzz_fields_deinit(&lines);
    return 0;
}
