#include "node/test_junit.h"

/* For text and attributes. XML has no place for most control characters, nor
 * for bytes that are not UTF-8: they become U+FFFD. A line break in an
 * attribute is written so that it stays one. */
static void add_xml(struct moon_buf *out, struct moon_str s, bool attribute)
{
    size_t at = 0;
    while (at < s.len) {
        unsigned char byte = (unsigned char)s.ptr[at];
        size_t len =
            moon_utf8_len((const unsigned char *)s.ptr + at, s.len - at);
        bool control =
            (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
        /* U+FFFE and U+FFFF are no characters. */
        bool none = len == 3 && memcmp(s.ptr + at, "\xef\xbf", 2) == 0 &&
                    (unsigned char)s.ptr[at + 2] >= 0xbe;
        if (len == 0 || control || none)
            moon_buf_addz(out, "\xef\xbf\xbd");
        else if (attribute && (byte == '\n' || byte == '\t'))
            moon_buf_printf(out, "&#%d;", byte);
        else
            moon_buf_add_html(out, moon_str(s.ptr + at, len));
        at += len == 0 ? 1 : len;
    }
}

static void add_attribute(struct moon_buf *out, const char *namez,
                          struct moon_str value)
{
    moon_buf_printf(out, " %s=\"", namez);
    add_xml(out, value, true);
    moon_buf_add_char(out, '"');
}

static void add_element(struct moon_buf *out, const char *namez,
                        struct moon_str text)
{
    if (text.len == 0)
        return;
    moon_buf_printf(out, "<%s>", namez);
    add_xml(out, text, false);
    moon_buf_printf(out, "</%s>\n", namez);
}

/* "spec/users_spec.lua" is the class spec.users_spec. */
static void add_class(struct moon_buf *out, const char *namez)
{
    struct moon_str name = moon_strz(namez);
    struct moon_buf text = {0};
    if (name.len > 4 && memcmp(name.ptr + name.len - 4, ".lua", 4) == 0)
        name.len -= 4;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] != '/')
            moon_buf_add_char(&text, name.ptr[i]);
        else if (text.len > 0)
            moon_buf_add_char(&text, '.');
    }
    add_attribute(out, "classname", moon_buf_str(&text));
    moon_buf_deinit(&text);
}

static void add_place(struct moon_buf *out, struct moon_str place)
{
    struct moon_str file = place, line;
    while (file.len > 0 && file.ptr[file.len - 1] != ':')
        file.len--;
    if (file.len == 0)
        return;
    line = moon_str(place.ptr + file.len, place.len - file.len);
    file.len--;
    add_attribute(out, "file", file);
    add_attribute(out, "line", line);
}

static void add_trouble(struct moon_buf *out, const struct moon_test_case *test)
{
    static const enum moon_test_part texts[] = {
        MOON_TEST_PLACE, MOON_TEST_MESSAGE, MOON_TEST_SOURCE,
        MOON_TEST_DIFF,  MOON_TEST_TRACE,
    };
    const char *namez = test->outcome == MOON_TEST_FAILED ? "failure" : "error";
    moon_buf_printf(out, "<%s", namez);
    add_attribute(out, "type", test->parts[MOON_TEST_KIND]);
    add_attribute(out, "message", test->parts[MOON_TEST_MESSAGE]);
    moon_buf_add_char(out, '>');
    for (size_t i = 0; i < MOON_COUNT(texts); i++) {
        struct moon_str text = test->parts[texts[i]];
        add_xml(out, text, false);
        if (text.len > 0)
            moon_buf_add_char(out, '\n');
    }
    moon_buf_printf(out, "</%s>\n", namez);
}

static void add_case(struct moon_buf *out, const struct moon_test_file *file,
                     const struct moon_test_case *test)
{
    moon_buf_addz(out, "<testcase");
    add_class(out, file->namez);
    add_attribute(out, "name",
                  test->name.len > 0 ? test->name : moon_strz(file->namez));
    add_place(out, test->place);
    moon_buf_printf(out, " time=\"%.6f\">\n", (double)test->took_ns / 1e9);
    if (test->outcome == MOON_TEST_PENDING) {
        moon_buf_addz(out, "<skipped");
        add_attribute(out, "message", test->parts[MOON_TEST_MESSAGE]);
        moon_buf_addz(out, "/>\n");
    } else if (test->outcome != MOON_TEST_PASSED) {
        add_trouble(out, test);
    }
    add_element(out, "system-out", moon_buf_str(&test->log));
    moon_buf_addz(out, "</testcase>\n");
}

static void add_sums(struct moon_buf *out, const struct moon_test_sums *sums,
                     double seconds)
{
    moon_buf_printf(
        out,
        " tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"%zu\" "
        "time=\"%.6f\">\n",
        sums->tests, sums->by_outcome[MOON_TEST_FAILED],
        sums->by_outcome[MOON_TEST_ERROR], sums->by_outcome[MOON_TEST_PENDING],
        seconds);
}

static void add_suite(struct moon_buf *out, const struct moon_test_file *file)
{
    struct moon_test_sums sums = {0};
    moon_test_file_sum(file, &sums);
    moon_buf_addz(out, "<testsuite");
    add_attribute(out, "name", moon_strz(file->namez));
    add_sums(out, &sums, (double)file->took_ns / 1e9);
    for (size_t i = 0; i < file->count; i++) {
        if (file->cases[i]->ended)
            add_case(out, file, file->cases[i]);
    }
    add_element(out, "system-out", moon_buf_str(&file->log));
    add_element(out, "system-err", moon_buf_str(&file->output));
    moon_buf_addz(out, "</testsuite>\n");
}

void moon_test_junit(struct moon_buf *out, const struct moon_test_file *files,
                     size_t file_count, double seconds)
{
    struct moon_test_sums sums = {0};
    for (size_t i = 0; i < file_count; i++)
        moon_test_file_sum(&files[i], &sums);
    moon_buf_addz(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<testsuites");
    add_sums(out, &sums, seconds);
    for (size_t i = 0; i < file_count; i++)
        add_suite(out, &files[i]);
    moon_buf_addz(out, "</testsuites>\n");
}
