#include "base/log_records.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dirz[] = "/tmp/moonshine-log-XXXXXX";
static char pathz[64];

static char *contents(const char *filez)
{
    static char text[65536];
    FILE *file = fopen(filez, "re");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    return text;
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dirz) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dirz);
}

static int fresh_file(void **state)
{
    (void)state;
    (void)snprintf(pathz, sizeof(pathz), "%s/log", dirz);
    return moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, pathz);
}

static int drop_file(void **state)
{
    (void)state;
    moon_log_set_who("");
    (void)unlink(pathz);
    return moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, NULL);
}

static void text_lines(void **state)
{
    const struct moon_log_field fields[] = {
        {MOON_STR("route"), MOON_STR("/users/:id"), false},
        {MOON_STR("why"), MOON_STR("two words"), false},
        {MOON_STR("traceback"), MOON_STR("one:\n\ttwo\033"), false},
        {MOON_STR("empty"), MOON_STR(""), false},
        {MOON_STR("n"), MOON_STR("12"), true},
    };
    (void)state;
    moon_log_set_who("node-8080 worker 1");
    moon_log_fields(MOON_LOG_INFO, MOON_STR("hello"), fields, 5);
    moon_log(MOON_LOG_DEBUG, "not wanted");
    const char *text = contents(pathz);
    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24,
                        " info  node-8080 worker 1: hello route=/users/:id "
                        "why=\"two words\" empty=\"\" n=12\n"
                        "    traceback: one:\n    \ttwo\\x1b\n");
}

static void a_message_cannot_forge_a_line(void **state)
{
    (void)state;
    moon_log(MOON_LOG_WARN, "one\n2026-11-23T10:00:00.123Z error two\033[31m");
    assert_string_equal(contents(pathz) + 24,
                        " warn  one\n    2026-11-23T10:00:00.123Z error "
                        "two\\x1b[31m\n");
}

static void nothing_misleads_who_reads(void **state)
{
    const struct moon_log_field fields[] = {
        {MOON_STR("agent"), MOON_STR("\xe2\x80\xae\xc3\xa9\xc2\x9b"), false},
        {MOON_STR("tag"), MOON_STR("\xf3\xa0\x80\xa1"), false},
        {MOON_STR("a\nforged=1"), MOON_STR("x"), false},
        {MOON_STR("b c"), MOON_STR("one\n\xe2\x81\xa6two"), false},
    };
    (void)state;
    moon_log_fields(MOON_LOG_INFO, MOON_STR("\xc3\xa9\xe2\x80\xae\xff\x9b"),
                    fields, 4);
    assert_string_equal(
        contents(pathz) + 24,
        " info  \xc3\xa9\\xe2\\x80\\xae\\xff\\x9b "
        "agent=\"\\u202e\xc3\xa9\\u009b\" tag=\"\\udb40\\udc21\" "
        "\"a\\nforged=1\"=x\n"
        "    \"b c\": one\n    \\xe2\\x81\\xa6two\n");
}

static void json_lines(void **state)
{
    const struct moon_log_field fields[] = {
        {MOON_STR("route"), MOON_STR("a\"b\n"), false},
        {MOON_STR("n"), MOON_STR("12"), true},
    };
    (void)state;
    assert_int_equal(moon_log_setup(MOON_LOG_DEBUG, MOON_LOG_JSON, pathz),
                     MOON_OK);
    moon_log_set_who("node-1");
    moon_log_fields(MOON_LOG_DEBUG, MOON_STR("x\xff"), fields, 2);
    const char *text = strstr(contents(pathz), ",\"level\"");
    assert_non_null(text);
    assert_string_equal(text,
                        ",\"level\":\"debug\",\"who\":\"node-1\",\"message\":"
                        "\"x\\ufffd\",\"route\":\"a\\\"b\\n\",\"n\":12}\n");
}

static void the_writer_flushes_on_stop(void **state)
{
    (void)state;
    assert_int_equal(moon_log_start_writer(), MOON_OK);
    assert_int_equal(moon_log_start_writer(), MOON_OK); /* running already */
    for (int i = 0; i < 100; i++)
        moon_log(MOON_LOG_INFO, "line %d", i);
    moon_log_raw(MOON_STR("raw\n"));
    moon_log_stop_writer();
    const char *text = contents(pathz);
    assert_non_null(strstr(text, "line 0\n"));
    assert_non_null(strstr(text, "line 99\nraw\n"));
    moon_log_stop_writer(); /* nothing to stop */
}

static void reopening_follows_a_rotation(void **state)
{
    char oldz[80];
    (void)state;
    (void)snprintf(oldz, sizeof(oldz), "%s.1", pathz);
    moon_log(MOON_LOG_ERROR, "before");
    assert_int_equal(rename(pathz, oldz), 0);
    assert_int_equal(moon_log_start_writer(), MOON_OK);
    assert_int_equal(moon_log_reopen(), MOON_OK);
    moon_log(MOON_LOG_ERROR, "after");
    moon_log_stop_writer();
    assert_non_null(strstr(contents(oldz), "before"));
    assert_null(strstr(contents(pathz), "before"));
    assert_non_null(strstr(contents(pathz), "after"));
    (void)unlink(oldz);
}

static void a_child_writes_its_own_lines_only(void **state)
{
    int status;
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it refuses threads in a child of a process with threads */
#endif
    assert_int_equal(moon_log_start_writer(), MOON_OK);
    moon_log(MOON_LOG_INFO, "from the parent");
    pid_t pid = fork();
    if (pid == 0) {
        moon_log(MOON_LOG_INFO, "at once");
        if (moon_log_start_writer() != MOON_OK)
            _exit(1);
        moon_log(MOON_LOG_INFO, "by its writer");
        moon_log_stop_writer();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    moon_log_stop_writer();
    const char *text = contents(pathz);
    const char *first = strstr(text, "from the parent");
    assert_non_null(first);
    assert_null(strstr(first + 1, "from the parent"));
    assert_non_null(strstr(text, "at once"));
    assert_non_null(strstr(text, "by its writer"));
}

/* A full pipe that nobody reads: the caller goes on, what does not fit is
 * counted, and the count is said once the reader is back. */
static void a_stuck_reader_drops_and_counts(void **state)
{
    char fifoz[80];
    static char line[10000], text[4 << 20];
    (void)state;
    (void)snprintf(fifoz, sizeof(fifoz), "%s/fifo", dirz);
    assert_int_equal(mkfifo(fifoz, 0600), 0);
    int reader = open(fifoz, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    assert_int_equal(moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, fifoz),
                     MOON_OK);
    assert_int_equal(moon_log_start_writer(), MOON_OK);
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (int i = 0; i < 400; i++)
        moon_log_raw(moon_str(line, sizeof(line)));
    assert_int_equal(fcntl(reader, F_SETFL, 0), 0);
    size_t len = 0;
    const char *said = NULL;
    while (said == NULL && len < sizeof(text) - 1) {
        ssize_t n = read(reader, text + len, sizeof(text) - 1 - len);
        assert_true(n > 0);
        len += (size_t)n;
        text[len] = '\0';
        moon_log(MOON_LOG_WARN, "hello again");
        said = strstr(text, " lines dropped\n");
    }
    assert_non_null(said);
    while (said > text && said[-1] != ' ')
        said--;
    long dropped = strtol(said, NULL, 10);
    assert_true(dropped > 100 && dropped < 400);
    (void)close(reader);
    moon_log_stop_writer();
    (void)unlink(fifoz);
}

/* Without a writer the caller is the master: it must not hang for ever. */
static void nobody_reads_and_there_is_no_writer(void **state)
{
    char fifoz[80];
    static char text[1 << 20];
    struct moon_str line = MOON_STR("0123456789012345678901234567890123456789");
    (void)state;
    (void)snprintf(fifoz, sizeof(fifoz), "%s/fifo", dirz);
    assert_int_equal(mkfifo(fifoz, 0600), 0);
    int reader = open(fifoz, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    assert_int_equal(moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, fifoz),
                     MOON_OK);
    for (int i = 0; i < 5000; i++)
        moon_log_fields(MOON_LOG_INFO, line, NULL, 0);
    while (read(reader, text, sizeof(text)) > 0)
        continue;
    moon_log(MOON_LOG_INFO, "hello again");
    ssize_t len = read(reader, text, sizeof(text) - 1);
    assert_true(len > 0);
    text[len] = '\0';
    assert_non_null(strstr(text, " lines dropped\n"));
    assert_non_null(strstr(text, "hello again\n"));
    (void)close(reader);
    (void)unlink(fifoz);
}

static void a_writer_without_a_reader_can_be_stopped(void **state)
{
    char fifoz[80];
    static char line[10000];
    (void)state;
    (void)snprintf(fifoz, sizeof(fifoz), "%s/fifo", dirz);
    assert_int_equal(mkfifo(fifoz, 0600), 0);
    int reader = open(fifoz, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    assert_int_equal(moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, fifoz),
                     MOON_OK);
    assert_int_equal(moon_log_start_writer(), MOON_OK);
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (int i = 0; i < 400; i++)
        moon_log_raw(moon_str(line, sizeof(line)));
    moon_log_stop_writer();
    (void)close(reader);
    (void)unlink(fifoz);
}

static void levels_parse(void **state)
{
    enum moon_log_level level;
    (void)state;
    assert_true(moon_log_level_parse(MOON_STR("warn"), &level));
    assert_int_equal(level, MOON_LOG_WARN);
    assert_false(moon_log_level_parse(MOON_STR("warning"), &level));
    assert_false(moon_log_level_parse(MOON_STR(""), &level));
}

static void a_bad_path_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(
        moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, "/nowhere/at/all"),
        MOON_ENOT_FOUND);
}

struct seen {
    enum moon_log_level level;
    char text[200];
};

static void see(void *ctx, enum moon_log_level level, struct moon_str text)
{
    struct seen *seen = ctx;
    seen->level = level;
    (void)snprintf(seen->text, sizeof(seen->text), "%.*s", MOON_STR_ARG(text));
}

static void *log_elsewhere(void *unused)
{
    moon_log(MOON_LOG_WARN, "from elsewhere");
    return unused;
}

static void lines_are_kept_as_data(void **state)
{
    const struct moon_log_field fields[] = {
        {MOON_STR("n"), MOON_STR("12"), true},
        {MOON_STR("why"), MOON_STR("two words"), false},
    };
    struct moon_log_record record;
    struct seen seen = {0};
    pthread_t other;
    (void)state;
    moon_log_records_start(see, &seen);
    moon_log(MOON_LOG_DEBUG, "not wanted");
    moon_log_fields(MOON_LOG_WARN, MOON_STR("first\n"), fields, 2);
    assert_int_equal(seen.level, MOON_LOG_WARN);
    assert_string_equal(seen.text, "first n=12 why=\"two words\"");
    moon_log(MOON_LOG_INFO, "second");
    assert_int_equal(pthread_create(&other, NULL, log_elsewhere, NULL), 0);
    (void)pthread_join(other, NULL);
    assert_int_equal(moon_log_records_count(), 2);
    assert_true(moon_log_records_get(0, &record));
    assert_int_equal(record.level, MOON_LOG_WARN);
    assert_true(moon_str_eq(record.message, MOON_STR("first\n")));
    assert_int_equal(record.field_count, 2);
    assert_true(moon_str_eq(record.fields[0].name, MOON_STR("n")));
    assert_true(record.fields[0].raw && !record.fields[1].raw);
    assert_true(moon_str_eq(record.fields[1].value, MOON_STR("two words")));
    assert_true(moon_log_records_get(1, &record));
    assert_int_equal(record.field_count, 0);
    assert_false(moon_log_records_get(2, &record));

    moon_log_records_clear();
    for (int i = 0; i < MOON_LOG_RECORDS + 5; i++)
        moon_log(MOON_LOG_INFO, "%d", i);
    assert_int_equal(moon_log_records_count(), MOON_LOG_RECORDS + 5);
    assert_true(moon_log_records_get(MOON_LOG_RECORDS - 1, &record));
    assert_true(moon_str_eq(record.message, MOON_STR("999")));
    assert_false(moon_log_records_get(MOON_LOG_RECORDS, &record));
    moon_log_records_stop();

    const char *text = contents(pathz);
    assert_null(strstr(text, "first"));
    assert_non_null(strstr(text, "from elsewhere"));
    moon_log_records_start(NULL, NULL);
    moon_log(MOON_LOG_INFO, "kept and written");
    assert_int_equal(moon_log_records_count(), 1);
    moon_log_records_stop();
    assert_non_null(strstr(contents(pathz), "kept and written"));
}

#define WITH_FILE(f) cmocka_unit_test_setup_teardown(f, fresh_file, drop_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(text_lines),
        WITH_FILE(a_message_cannot_forge_a_line),
        WITH_FILE(nothing_misleads_who_reads),
        WITH_FILE(json_lines),
        WITH_FILE(the_writer_flushes_on_stop),
        WITH_FILE(reopening_follows_a_rotation),
        WITH_FILE(a_child_writes_its_own_lines_only),
        WITH_FILE(a_stuck_reader_drops_and_counts),
        WITH_FILE(nobody_reads_and_there_is_no_writer),
        WITH_FILE(a_writer_without_a_reader_can_be_stopped),
        WITH_FILE(lines_are_kept_as_data),
        cmocka_unit_test(levels_parse),
        cmocka_unit_test(a_bad_path_is_an_error),
    };
    /* The reader of a pipe may leave first. */
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
