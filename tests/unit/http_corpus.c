/* Wire requests collected by other projects: what they hold for malformed is
 * refused, what they hold for valid is taken, whole, byte by byte and at every
 * split. MOONSHINE_CORPORA names the folder with http-gunicorn and http-llhttp,
 * else ../shared/corpora beside the sources is tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http_feed.h"

#include <dirent.h>

struct exception {
    const char *name; /* up to a '*', if it ends in one */
    const char *reason;
};

static const struct exception gunicorn_valid[] = {
    {"005.http", "a fragment in the target"},
    {"009.http", "a fragment, and two framings"},
    {"013.http", "white space in chunk extensions, which llhttp refuses"},
    {"025*", "a transfer coding that we lack"},
    {"027.http", "a raw non-ASCII byte in the target"},
    {"028.http", "white space before the colon, an option there"},
    {"029.http", "transfer coding identity"},
    {"030.http", "transfer coding identity"},
    {"099.http", "a body shorter than its Content-Length"},
    {"compat_obs_fold*", "obs-fold, an option there"},
    {"pp_01.http", "the PROXY protocol belongs to the listener"},
    {"pp_02.http", "the PROXY protocol belongs to the listener"},
    {"pp_04.http", "the PROXY protocol belongs to the listener"},
    {"pp_05.http", "the PROXY protocol belongs to the listener"},
    {"rfc9112_smuggle_gzip_chunked*", "a transfer coding that we lack"},
    {"rfc9112_smuggle_te_identity*", "transfer coding identity"},
    {"rfc9112_target_absolute_userinfo*", "user information in a target"},
    {"rfc9112_target_authority*", "CONNECT is not for an origin server"},
};

static const struct exception gunicorn_invalid[] = {
    {"003c.http", "a method that is odd, but a token"},
    {"006.http", "gunicorn's limit for the request line"},
    {"007.http", "gunicorn's limit for a field"},
    {"008.http", "gunicorn's limit for a field"},
    {"009.http", "gunicorn's limit for the number of fields"},
    {"010.http", "gunicorn's limit for fields, set by its test"},
    {"011.http", "gunicorn's limit for fields, set by its test"},
    {"012.http", "gunicorn's limit for fields, set by its test"},
    {"017.http", "gunicorn's limit for a field"},
    {"019.http", "gunicorn's own rule for X-Forwarded fields"},
    {"040.http", "underscores in names, mapped to hyphens by WSGI"},
    {"041.http", "two Content-Types are the application's concern"},
    {"chunked_07.http", "underscores in names, mapped to hyphens by WSGI"},
    {"limit_*", "gunicorn's limits"},
};

/* By the heading of the section. */
static const struct exception llhttp_cases[] = {
    {"No HTTP version", "HTTP/0.9"},
    {"M-SEARCH request", "only OPTIONS may ask for *"},
    {"SOURCE request with ICE", "another protocol"},
    {"OPTIONS request with RTSP", "another protocol"},
    {"ANNOUNCE request with RTSP", "another protocol"},
    {"HTTP protocol and ANNOUNCE method", "any token is a method"},
    {"Invalid method", "any token is a method"},
    {"POST with `chunked` as last transfer-encoding*",
     "a fragment, and a transfer coding that we lack"},
    {"CRLF between requests, implicit*", "the last request is not complete"},
    {"Should parse multiple events", "the last body is not complete"},
    {"Fragment in URI", "a fragment in the target"},
    {"`host:port` and basic auth", "user information in a target"},
};

static const char *reason_for(const struct exception *list, size_t count,
                              const char *name)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(list[i].name, "*");
        bool open = list[i].name[len] == '*';
        if (strncmp(name, list[i].name, len) == 0 &&
            (open || name[len] == '\0'))
            return list[i].reason;
    }
    return NULL;
}

static bool corpora(char *path, size_t size, const char *folder)
{
    const char *root = getenv("MOONSHINE_CORPORA");
    (void)snprintf(path, size, "%s/%s",
                   root != NULL ? root : MOON_SOURCE_DIR "/../shared/corpora",
                   folder);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        print_message("no corpus at %s: skipped\n", path);
        return false;
    }
    (void)closedir(dir);
    return true;
}

static void read_file(const char *path, struct moon_buf *out)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t got;
    do {
        char *to = moon_buf_reserve(out, 4096);
        assert_non_null(to);
        got = fread(to, 1, 4096, file);
        out->len += got;
    } while (got > 0);
    (void)fclose(file);
}

static int hex_digit(char ch)
{
    const char *digits = "0123456789abcdef";
    const char *at = strchr(digits, ch >= 'A' && ch <= 'F' ? ch + 32 : ch);
    return at == NULL || ch == '\0' ? -1 : (int)(at - digits);
}

/* Resolves the escape after a backslash at s; returns how long it is, 0 if it
 * is none. */
static size_t unescape(struct moon_str s, struct moon_buf *out)
{
    static const char names[] = "rntf0", bytes[] = "\r\n\t\f\0";
    if (s.len == 0)
        return 0;
    const char *at = strchr(names, s.ptr[0]);
    if (s.ptr[0] != '\0' && at != NULL) {
        moon_buf_add_char(out, bytes[at - names]);
        return 1;
    }
    if (s.len < 3 || s.ptr[0] != 'x' || hex_digit(s.ptr[1]) < 0 ||
        hex_digit(s.ptr[2]) < 0)
        return 0;
    moon_buf_add_char(out,
                      (char)(hex_digit(s.ptr[1]) << 4 | hex_digit(s.ptr[2])));
    return 3;
}

/* Line ends of the file stand for `newline`; escapes are resolved. */
static void unescape_all(struct moon_str text, const char *newline,
                         struct moon_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        struct moon_str rest = moon_str(text.ptr + i + 1, text.len - i - 1);
        if (text.ptr[i] == '\n') {
            moon_buf_addz(out, newline);
        } else if (text.ptr[i] == '\\' && rest.len > 0 && *rest.ptr == '\n' &&
                   newline[0] != '\0') {
            i++; /* a line continued */
        } else {
            size_t used = text.ptr[i] == '\\' ? unescape(rest, out) : 0;
            if (used == 0)
                moon_buf_add_char(out, text.ptr[i]);
            i += used;
        }
    }
}

/* Most of these requests lack the Host that HTTP/1.1 demands and others do
 * not insist on: without one all would be refused for that alone. */
static void add_host(struct moon_str wire, struct moon_buf *out)
{
    static const char end[] = "HTTP/1.1\r\n";
    while (moon_str_starts(wire, MOON_STR("\r\n"))) {
        moon_buf_add(out, wire.ptr, 2);
        wire = moon_str(wire.ptr + 2, wire.len - 2);
    }
    struct moon_str line = wire;
    const char *lf = memchr(wire.ptr, '\n', wire.len);
    line.len = lf == NULL ? 0 : (size_t)(lf - wire.ptr) + 1;
    bool insert = line.len >= sizeof(end) - 1 &&
                  memcmp(line.ptr + line.len - (sizeof(end) - 1), end,
                         sizeof(end) - 1) == 0;
    for (size_t i = 0; insert && i + 7 < wire.len; i++) {
        if (moon_str_eq_nocase(moon_str(wire.ptr + i, 7),
                               MOON_STR("\r\nHost:")) ||
            moon_str_starts(moon_str(wire.ptr + i, 8), MOON_STR("\r\nHost :")))
            insert = false;
        if (i + 4 <= wire.len && memcmp(wire.ptr + i, "\r\n\r\n", 4) == 0)
            break;
    }
    moon_buf_add_str(out, line);
    if (insert)
        moon_buf_addz(out, "Host: a\r\n");
    moon_buf_add(out, wire.ptr + line.len, wire.len - line.len);
}

/* Are these whole messages and nothing else? `text`: what came out last. */
static bool is_taken(struct moon_str wire, char text[FEED_TEXT])
{
    (void)snprintf(text, FEED_TEXT, "nothing");
    while (wire.len > 0) {
        struct moon_buf message = {0};
        add_host(wire, &message);
        feed_every_way(moon_buf_str(&message), &feed_limits, text);
        size_t added = message.len - wire.len, used = 0;
        const char *at = strstr(text, " used=");
        if (strncmp(text, "done", 4) == 0 && at != NULL)
            used = (size_t)strtoull(at + 6, NULL, 10) - added;
        moon_buf_deinit(&message);
        if (used == 0)
            return false;
        if (strstr(text, " keep") == NULL)
            return true; /* the rest is not looked at */
        wire = moon_str(wire.ptr + used, wire.len - used);
        /* Ends of files, and empty lines that end no request. */
        if (wire.len <= 4 && memcmp(wire.ptr, "\r\n\r\n", wire.len) == 0)
            break;
    }
    return true;
}

static int check_gunicorn(const char *folder, bool valid,
                          const struct exception *list, size_t count)
{
    char path[512], text[FEED_TEXT];
    int files = 0, wrong = 0;
    (void)snprintf(path, sizeof(path), "http-gunicorn/%s", folder);
    char root[512];
    if (!corpora(root, sizeof(root), path))
        skip();
    DIR *dir = opendir(root);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strstr(entry->d_name, ".http") == NULL ||
            reason_for(list, count, entry->d_name) != NULL)
            continue;
        struct moon_buf file = {0}, wire = {0};
        (void)snprintf(path, sizeof(path), "%.200s/%.255s", root,
                       entry->d_name);
        read_file(path, &file);
        unescape_all(moon_buf_str(&file), "", &wire);
        files++;
        if (is_taken(moon_buf_str(&wire), text) != valid) {
            print_message("%s/%s: %s\n", folder, entry->d_name, text);
            wrong++;
        }
        moon_buf_deinit(&file);
        moon_buf_deinit(&wire);
    }
    (void)closedir(dir);
    assert_true(files > 0);
    return wrong;
}

static void agrees_with_gunicorn_on_valid(void **state)
{
    (void)state;
    assert_int_equal(check_gunicorn("valid", true, gunicorn_valid,
                                    MOON_COUNT(gunicorn_valid)),
                     0);
}

static void agrees_with_gunicorn_on_invalid(void **state)
{
    (void)state;
    assert_int_equal(check_gunicorn("invalid", false, gunicorn_invalid,
                                    MOON_COUNT(gunicorn_invalid)),
                     0);
}

/* The block that starts with "```KIND\n" at or after *at; false if none. */
static bool next_block(struct moon_str text, const char *kind, size_t *at,
                       struct moon_str *out)
{
    char open[32];
    int len = snprintf(open, sizeof(open), "```%s\n", kind);
    char *from = memmem(text.ptr + *at, text.len - *at, open, (size_t)len);
    if (from == NULL)
        return false;
    from += len;
    char *end = memmem(from, text.len - (size_t)(from - text.ptr), "\n```", 4);
    assert_non_null(end);
    *out = moon_str(from, (size_t)(end - from));
    *at = (size_t)(end - text.ptr) + 4;
    return true;
}

static bool contains(struct moon_str text, const char *part)
{
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

/* The text from the last "## " before `at` to the end of its line. */
static struct moon_str heading_before(struct moon_str text, size_t at)
{
    while (at > 0 && strncmp(text.ptr + at, "\n##", 3) != 0)
        at--;
    struct moon_str rest, line = moon_str(text.ptr + at + 1, text.len - at - 1);
    line = moon_str_cut(line, '\n', &rest);
    while (line.len > 0 && (line.ptr[0] == '#' || line.ptr[0] == ' '))
        line = moon_str(line.ptr + 1, line.len - 1);
    return line;
}

/* What a section wants: the verdict of llhttp in strict mode, or nothing that
 * applies here (an upgrade, bytes behind a message that closes). */
enum verdict { VERDICT_NONE, VERDICT_TAKEN, VERDICT_REFUSED };

static enum verdict verdict_of(struct moon_str meta, struct moon_str log)
{
    if (!contains(meta, "\"request\"") || contains(meta, "pause") ||
        contains(meta, "skipBody"))
        return VERDICT_NONE;
    if (contains(log, "error code=22") || contains(log, "error code=23") ||
        contains(log, "error code=5 "))
        return VERDICT_NONE;
    if (contains(log, "error code="))
        return VERDICT_REFUSED;
    return contains(log, "message complete") ? VERDICT_TAKEN : VERDICT_NONE;
}

static bool check_section(struct moon_str heading, enum verdict verdict,
                          struct moon_str source)
{
    char name[128], text[FEED_TEXT];
    (void)snprintf(name, sizeof(name), "%.*s", MOON_STR_ARG(heading));
    if (verdict == VERDICT_NONE ||
        reason_for(llhttp_cases, MOON_COUNT(llhttp_cases), name) != NULL)
        return true;
    struct moon_buf wire = {0};
    unescape_all(source, "\r\n", &wire);
    bool taken = is_taken(moon_buf_str(&wire), text);
    moon_buf_deinit(&wire);
    if (taken == (verdict == VERDICT_TAKEN))
        return true;
    print_message("%s: %s\n", name, text);
    return false;
}

static int check_llhttp(const char *path)
{
    static const char meta_open[] = "<!-- meta=";
    struct moon_buf file = {0};
    int wrong = 0;
    read_file(path, &file);
    struct moon_str text = moon_buf_str(&file), source, log, rest;
    for (size_t at = 0;;) {
        char *from = memmem(text.ptr + at, text.len - at, meta_open,
                            sizeof(meta_open) - 1);
        if (from == NULL)
            break;
        at = (size_t)(from - text.ptr);
        struct moon_str heading = heading_before(text, at);
        struct moon_str meta =
            moon_str_cut(moon_str(from, text.len - at), '\n', &rest);
        if (!next_block(text, "http", &at, &source) ||
            !next_block(text, "log", &at, &log))
            break;
        wrong += !check_section(heading, verdict_of(meta, log), source);
    }
    moon_buf_deinit(&file);
    return wrong;
}

static void agrees_with_llhttp(void **state)
{
    (void)state;
    char root[512], path[512];
    int files = 0, wrong = 0;
    if (!corpora(root, sizeof(root), "http-llhttp"))
        skip();
    DIR *dir = opendir(root);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strstr(entry->d_name, ".md") == NULL)
            continue;
        (void)snprintf(path, sizeof(path), "%.200s/%.255s", root,
                       entry->d_name);
        wrong += check_llhttp(path);
        files++;
    }
    (void)closedir(dir);
    assert_true(files > 0);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_gunicorn_on_valid),
        cmocka_unit_test(agrees_with_gunicorn_on_invalid),
        cmocka_unit_test(agrees_with_llhttp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
