/* multipart/form-data: what is taken, what is refused, and that no input
 * reads past its end (run under ASan with a body of its exact size). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "http/multipart.h"

/* "[name|filename|type|data]" for each part, or the reason of refusal. */
static char *describe(const char *typez, struct moon_str body)
{
    struct moon_buf out = {0};
    struct moon_multipart m;
    struct moon_part part;
    const char *whyz = NULL;
    char *exact = malloc(body.len + 1); /* an overrun of one would be seen */
    assert_non_null(exact);
    memcpy(exact, body.ptr, body.len);
    char *own = realloc(exact, body.len == 0 ? 1 : body.len);
    enum moon_err err = moon_multipart_init(&m, moon_strz(typez),
                                            moon_str(own, body.len), &whyz);
    while (err == MOON_OK &&
           (err = moon_multipart_next(&m, &part, &whyz)) == MOON_OK) {
        char name[256], file[256];
        size_t name_len = moon_part_text(part.name, name);
        struct moon_str base =
            moon_part_base_name(file, moon_part_text(part.filename, file));
        moon_buf_printf(&out, "[%.*s|%s%.*s|%.*s|%.*s]", (int)name_len, name,
                        part.is_file ? "=" : "", MOON_STR_ARG(base),
                        MOON_STR_ARG(part.type), MOON_STR_ARG(part.data));
    }
    if (err != MOON_ENOT_FOUND) {
        assert_int_equal(err, MOON_EPROTO);
        assert_non_null(whyz);
        out.len = 0;
        moon_buf_addz(&out, whyz);
    }
    free(own);
    moon_buf_add_char(&out, '\0');
    return out.ptr;
}

#define TYPE "multipart/form-data; boundary=b"
#define PART(disposition) "--b\r\nContent-Disposition: " disposition "\r\n\r\n"

static void bodies_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *body, *want;
    } samples[] = {
        {PART("form-data; name=\"a\"") "1\r\n--b--\r\n", "[a|||1]"},
        {PART("form-data; name=\"a\"") "1\r\n--b--", "[a|||1]"},
        {"preamble\r\n" PART("form-data; name=a") "\r\n--b--epilogue",
         "[a|||]"},
        {PART("form-data; name=a") "--b--", "[a|||]"},
        {PART("form-data; name=a") "1\r\n" PART(
             "FORM-DATA;NAME=b;") "2\r\n--b  \r\n"
                                  "content-disposition:form-data;name=c"
                                  "\r\n\r\n3\r\n--b--",
         "[a|||1][b|||2][c|||3]"},
        {PART("form-data; name=\"f\"; filename=\"x.txt\"\r\n"
              "Content-Type: text/plain; charset=utf-8") "hi\r\n--b--\r\n",
         "[f|=x.txt|text/plain|hi]"},
        {PART("form-data; name=\"f\"; filename=\"\"") "\r\n--b--", "[f|=||]"},
        {PART("form-data; filename=\"C:\\\\dir\\\\x y.txt\"; name=f") "\r\n--b-"
                                                                      "-",
         "[f|=x y.txt||]"},
        {PART("form-data; name=f; filename=\"../../etc/passwd\"") "\r\n--b--",
         "[f|=passwd||]"},
        {PART("form-data; name=f; filename=\"..\"") "\r\n--b--", "[f|=||]"},
        {PART(
             "form-data; name=\"a%22b\\\"c\"; filename=\"q%0D%0A;.txt\"") "\r\n"
                                                                          "--b-"
                                                                          "-",
         "[a\"b\"c|=q;.txt||]"},
        {PART("form-data; name=\"n\xc3\xa4me\"") "--bx\r\n--b--",
         "[n\xc3\xa4me|||--bx]"},
        {PART("form-data; name=a") "--bno\r\n-b\r\n--b--", "[a|||--bno\r\n-b]"},
        {"--b--", ""},
        {PART("form-data; name=a\r\nContent-Transfer-Encoding: 8BIT") "\xff\r\n"
                                                                      "--b--",
         "[a|||\xff]"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        char *got = describe(TYPE, moon_strz(samples[i].body));
        assert_string_equal(got, samples[i].want);
        free(got);
    }
}

static void broken_bodies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body, *want;
    } samples[] = {
        {"", "does not contain its boundary"},
        {"--c\r\n", "does not contain its boundary"},
        {"--b", "does not contain its boundary"},
        {"--bb\r\n", "does not contain its boundary"},
        {"--b\r\n", "ends inside a part's header"},
        {"--b\r\nContent-Disposition: form-data; name=a\r\n",
         "ends inside a part's header"},
        {PART("form-data; name=a") "1", "is cut off"},
        {PART("form-data; name=a") "1\r\n--b", "is cut off"},
        {PART("form-data; name=a") "1\r\n--b\r\n", "ends inside"},
        {PART("form-data; name=a") "1\n--b--", "is cut off"},
        {PART("form-data") "1\r\n--b--", "has no name"},
        {PART("attachment; name=a") "1\r\n--b--", "is not form-data"},
        {PART("form-data; name=\"a") "1\r\n--b--", "is malformed"},
        {PART("form-data, name=a") "1\r\n--b--", "is not form-data"},
        {PART("form-data; =a") "1\r\n--b--", "is malformed"},
        {PART(
             "form-data; name=a\r\nContent-Disposition: form-data; name=b") "1"
                                                                            "\r"
                                                                            "\n"
                                                                            "--"
                                                                            "b-"
                                                                            "-",
         "two Content-Dispositions"},
        {PART("form-data; name=a\r\nContent-Transfer-Encoding: base64") "aGk="
                                                                        "\r\n--"
                                                                        "b--",
         "Content-Transfer-Encoding"},
        {PART("form-data; name=a\r\nno colon") "1\r\n--b--", "is malformed"},
        {PART("form-data; name=a\r\n folded") "1\r\n--b--", "is malformed"},
        {"--b\nContent-Disposition: form-data; name=a\n\n1\n--b--",
         "does not contain its boundary"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        char *got = describe(TYPE, moon_strz(samples[i].body));
        if (strstr(got, samples[i].want) == NULL)
            fail_msg("%zu: %s is not in: %s", i, samples[i].want, got);
        free(got);
    }
}

static void boundaries_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        bool good;
    } samples[] = {
        {"multipart/form-data; boundary=b", true},
        {"Multipart/Form-Data ; charset=utf-8; Boundary=\"b\"", true},
        {"multipart/form-data;boundary=b;", true},
        {"multipart/form-data; boundary=\"b c\"", true},
        {"multipart/form-data", false},
        {"multipart/form-data; boundary=", false},
        {"multipart/form-data; boundary=\"b ", false},
        {"multipart/form-data; boundary=\"b \"", false},
        {"multipart/form-data; boundary=b\xc3", false},
        {"multipart/form-data; boundary=b; boundary=c", false},
        {"multipart/mixed; boundary=b", false},
        {"multipart/form-data; boundary=0123456789012345678901234567890123456"
         "7890123456789012345678901234567890",
         false},
    };
    struct moon_multipart m;
    const char *whyz;
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        bool good = moon_multipart_init(&m, moon_strz(samples[i].type),
                                        MOON_STR("--b--"), &whyz) == MOON_OK;
        if (good != samples[i].good)
            fail_msg("%s", samples[i].type);
    }
}

static void headers_are_bounded(void **state)
{
    (void)state;
    struct moon_buf body = {0};
    moon_buf_addz(&body, "--b\r\nContent-Disposition: form-data; name=a\r\n");
    for (int i = 0; i < MOON_PART_HEADERS; i++)
        moon_buf_addz(&body, "X-Header: 1\r\n");
    moon_buf_addz(&body, "\r\n1\r\n--b--");
    char *got = describe(TYPE, moon_buf_str(&body));
    assert_non_null(strstr(got, "too many headers"));
    free(got);
    body.len = 0;
    moon_buf_addz(&body, "--b\r\nX-Header: ");
    for (int i = 0; i < MOON_PART_HEADER_BYTES; i++)
        moon_buf_add_char(&body, 'x');
    got = describe(TYPE, moon_buf_str(&body));
    assert_non_null(strstr(got, "too large"));
    free(got);
    moon_buf_deinit(&body);
}

/* Every cut and many random changes of a good body: refused or taken, never
 * read past its end, never endless. */
static void mutations_are_survived(void **state)
{
    (void)state;
    static const char good[] =
        "--b\r\nContent-Disposition: form-data; name=\"a\\\"\"\r\n\r\n1\r\n"
        "--b\r\nContent-Disposition: form-data; name=f; filename=\"x%22y\"\r\n"
        "Content-Type: image/png\r\n\r\n\x89PNG\r\n\r\n--b-\r\n--b--\r\n";
    for (size_t len = 0; len < sizeof(good); len++)
        free(describe(TYPE, moon_str(good, len)));
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char copy[sizeof(good)];
        memcpy(copy, good, sizeof(good));
        for (int change = 0; change < 4; change++) {
            seed = seed * 1664525u + 1013904223u;
            static const char bytes[] = "\r\n-b;=\"\\: \0%";
            copy[(seed >> 8) % sizeof(good)] =
                bytes[(seed >> 20) % (sizeof(bytes) - 1)];
        }
        free(describe(TYPE, moon_str(copy, sizeof(copy) - 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_split),
        cmocka_unit_test(broken_bodies_are_refused),
        cmocka_unit_test(boundaries_are_checked),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(mutations_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
