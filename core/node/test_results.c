#include "node/test_results.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void moon_test_no_memory(void)
{
    (void)fprintf(stderr, "moonshine test: out of memory\n");
    _exit(1);
}

static void check(const struct moon_buf *buf)
{
    if (buf->failed)
        moon_test_no_memory();
}

static void replace(struct moon_buf *buf, struct moon_str text)
{
    buf->len = 0;
    moon_buf_add_str(buf, text);
    check(buf);
}

struct moon_test_case *moon_test_file_running(const struct moon_test_file *file)
{
    if (file->count == 0 || file->cases[file->count - 1]->ended)
        return NULL;
    return file->cases[file->count - 1];
}

static struct moon_test_case *begin(struct moon_test_file *file,
                                    struct moon_str text)
{
    if (file->count == file->cap) {
        file->cap = file->cap == 0 ? 16 : file->cap * 2;
        struct moon_test_case **grown =
            realloc(file->cases, file->cap * sizeof(*grown));
        if (grown == NULL)
            moon_test_no_memory();
        file->cases = grown;
    }
    struct moon_test_case *made = calloc(1, sizeof(*made));
    if (made == NULL)
        moon_test_no_memory();
    replace(&made->begin_text, text);
    made->name =
        moon_str_cut(moon_buf_str(&made->begin_text), '\0', &made->place);
    file->cases[file->count++] = made;
    return made;
}

static void end(struct moon_test_case *test, enum moon_test_outcome outcome,
                uint64_t took_ns, struct moon_str text)
{
    test->ended = true;
    test->outcome = outcome < MOON_TEST_OUTCOMES ? outcome : MOON_TEST_ERROR;
    test->took_ns = took_ns;
    replace(&test->end_text, text);
    struct moon_str rest = moon_buf_str(&test->end_text);
    for (size_t i = 0; i < MOON_TEST_PARTS; i++)
        test->parts[i] = moon_str_cut(rest, '\0', &rest);
}

static void add_line(struct moon_buf *out, enum moon_log_level level,
                     struct moon_str text)
{
    moon_buf_printf(out, "%-5s  %.*s\n", moon_log_level_name(level),
                    MOON_STR_ARG(text));
    check(out);
}

static void add_log(struct moon_test_file *file, uint32_t number,
                    struct moon_str text)
{
    enum moon_log_level level =
        number <= MOON_LOG_ERROR ? (enum moon_log_level)number : MOON_LOG_ERROR;
    struct moon_test_case *test = moon_test_file_running(file);
    add_line(test != NULL ? &test->log : &file->log, level, text);
    if (test != NULL && level >= MOON_LOG_WARN)
        add_line(&test->warnings, level, text);
}

void moon_test_file_event(struct moon_test_file *file,
                          enum moon_test_event event, uint32_t number,
                          uint64_t took_ns, struct moon_str text)
{
    struct moon_test_case *test = moon_test_file_running(file);
    switch (event) {
    case MOON_TEST_PLAN:
        file->planned = number;
        break;
    case MOON_TEST_BEGIN:
        if (test == NULL)
            (void)begin(file, text);
        file->begun += number == 1;
        break;
    case MOON_TEST_STEP:
        if (test != NULL)
            replace(&test->step, text);
        break;
    case MOON_TEST_END:
        if (test != NULL)
            end(test, (enum moon_test_outcome)number, took_ns, text);
        break;
    case MOON_TEST_LOG:
        add_log(file, number, text);
        break;
    case MOON_TEST_DONE:
        break;
    }
}

/* "app.lua:3" of "app.lua:3: message", which is cut off there; else none. */
static struct moon_str cut_place(struct moon_str *message)
{
    struct moon_str after, number;
    struct moon_str file = moon_str_cut(*message, ':', &after);
    struct moon_str line = moon_str_cut(after, ':', &number);
    uint64_t value;
    if (file.len < 4 || memcmp(file.ptr + file.len - 4, ".lua", 4) != 0 ||
        !moon_str_to_u64(line, &value) || number.len < 1)
        return MOON_STR_NONE;
    struct moon_str place = moon_str(file.ptr, file.len + 1 + line.len);
    *message = moon_str(number.ptr + 1, number.len - 1);
    return place;
}

void moon_test_file_fail(struct moon_test_file *file, const char *kindz,
                         const char *namez, struct moon_str message)
{
    struct moon_test_case *test = moon_test_file_running(file);
    struct moon_buf text = {0};
    if (test == NULL) {
        moon_buf_printf(&text, "%s%c%s", namez, '\0', file->namez);
        check(&text);
        test = begin(file, moon_buf_str(&text));
        text.len = 0;
    }
    struct moon_str place = cut_place(&message);
    if (place.len == 0)
        place = test->place;
    moon_buf_printf(&text, "%s%c%.*s%c%.*s", kindz, '\0', MOON_STR_ARG(place),
                    '\0', MOON_STR_ARG(message));
    check(&text);
    end(test, MOON_TEST_ERROR, 0, moon_buf_str(&text));
    moon_buf_deinit(&text);
}

void moon_test_file_sum(const struct moon_test_file *file,
                        struct moon_test_sums *sums)
{
    for (size_t i = 0; i < file->count; i++) {
        if (file->cases[i]->ended) {
            sums->by_outcome[file->cases[i]->outcome]++;
            sums->tests++;
        }
    }
}

void moon_test_file_deinit(struct moon_test_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        struct moon_test_case *test = file->cases[i];
        moon_buf_deinit(&test->log);
        moon_buf_deinit(&test->warnings);
        moon_buf_deinit(&test->step);
        moon_buf_deinit(&test->begin_text);
        moon_buf_deinit(&test->end_text);
        free(test);
    }
    free(file->cases);
    moon_buf_deinit(&file->log);
    moon_buf_deinit(&file->output);
    *file = (struct moon_test_file){0};
}
