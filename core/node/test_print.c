#include "node/test_print.h"

#include <stdlib.h>
#include <unistd.h>

#define RED "\033[31m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define CYAN "\033[36m"
#define BOLD "\033[1m"
#define DIM "\033[2m"
#define RESET "\033[0m"

static const struct {
    const char *colourz, *plainz;
    const char *titlez;
    const char *onez, *manyz;
} outcomes[] = {
    [MOON_TEST_PASSED] = {GREEN, "+", "Success", "success", "successes"},
    [MOON_TEST_FAILED] = {RED, "-", "Failure", "failure", "failures"},
    [MOON_TEST_ERROR] = {RED, "*", "Error", "error", "errors"},
    [MOON_TEST_PENDING] = {YELLOW, ".", "Pending", "pending", "pending"},
};

void moon_test_print_init(struct moon_test_print *print, FILE *out,
                          struct moon_test_file *files, size_t file_count)
{
    const char *no_colourz = getenv("NO_COLOR");
    *print = (struct moon_test_print){
        .out = out,
        .colour = (no_colourz == NULL || no_colourz[0] == '\0') &&
                  isatty(fileno(out)) == 1,
        .files = files,
        .file_count = file_count,
    };
}

static void add(const struct moon_test_print *print, const char *colourz,
                struct moon_str text)
{
    bool coloured = print->colour && colourz[0] != '\0';
    (void)fprintf(print->out, "%s%.*s%s", coloured ? colourz : "",
                  MOON_STR_ARG(text), coloured ? RESET : "");
}

static void addz(const struct moon_test_print *print, const char *colourz,
                 const char *textz)
{
    add(print, colourz, moon_strz(textz));
}

/* ---- while they run ---- */

void moon_test_print_marks(struct moon_test_print *print)
{
    while (print->at_file < print->file_count) {
        const struct moon_test_file *file = &print->files[print->at_file];
        while (print->at_case < file->count &&
               file->cases[print->at_case]->ended) {
            size_t outcome = file->cases[print->at_case++]->outcome;
            addz(print, outcomes[outcome].colourz,
                 print->colour ? "●" : outcomes[outcome].plainz);
        }
        if (!file->done)
            break;
        print->at_file++;
        print->at_case = 0;
    }
    (void)fflush(print->out);
}

/* ---- afterwards ---- */

/* Each line with `indentz` before it; the last one is ended. */
static void lines(const struct moon_test_print *print, const char *indentz,
                  struct moon_str text)
{
    while (text.len > 0) {
        struct moon_str line = moon_str_cut(text, '\n', &text);
        (void)fprintf(print->out, "%s%.*s\n", indentz, MOON_STR_ARG(line));
    }
}

static const char *diff_colour(struct moon_str line)
{
    switch (line.len > 0 ? line.ptr[0] : ' ') {
    case '-':
        return RED;
    case '+':
        return GREEN;
    default:
        return DIM;
    }
}

static void print_diff(const struct moon_test_print *print,
                       struct moon_str text)
{
    addz(print, DIM, "(- expected, + actual)");
    (void)fputc('\n', print->out);
    while (text.len > 0) {
        struct moon_str line = moon_str_cut(text, '\n', &text);
        add(print, diff_colour(line), line);
        (void)fputc('\n', print->out);
    }
}

/* "   12 | the line" */
static void print_source(const struct moon_test_print *print,
                         struct moon_str place, struct moon_str source)
{
    size_t digits = 0;
    while (digits < place.len && place.ptr[place.len - digits - 1] >= '0' &&
           place.ptr[place.len - digits - 1] <= '9')
        digits++;
    char number[32];
    (void)snprintf(number, sizeof(number), "%6.*s | ", (int)digits,
                   place.ptr + place.len - digits);
    addz(print, CYAN, number);
    (void)fprintf(print->out, "%.*s\n", MOON_STR_ARG(source));
}

/* "Failure -> spec/a_spec.lua:12", and the name below it. */
static void print_title(const struct moon_test_print *print,
                        const struct moon_test_case *test,
                        struct moon_str place)
{
    (void)fputc('\n', print->out);
    addz(print, outcomes[test->outcome].colourz,
         outcomes[test->outcome].titlez);
    (void)fputs(print->colour ? " → " : " -> ", print->out);
    add(print, CYAN, place);
    (void)fputc('\n', print->out);
    if (test->name.len > 0) {
        add(print, BOLD, test->name);
        (void)fputc('\n', print->out);
    }
}

static void print_case(const struct moon_test_print *print,
                       const struct moon_test_file *file,
                       const struct moon_test_case *test)
{
    struct moon_str place = test->parts[MOON_TEST_PLACE];
    if (place.len == 0)
        place = test->place.len > 0 ? test->place : moon_strz(file->namez);
    print_title(print, test, place);
    lines(print, "", test->parts[MOON_TEST_MESSAGE]);
    if (test->parts[MOON_TEST_SOURCE].len > 0)
        print_source(print, place, test->parts[MOON_TEST_SOURCE]);
    if (test->parts[MOON_TEST_DIFF].len > 0)
        print_diff(print, test->parts[MOON_TEST_DIFF]);
    lines(print, "", test->parts[MOON_TEST_TRACE]);
    if (test->warnings.len > 0 && test->outcome != MOON_TEST_PENDING) {
        (void)fprintf(print->out, "log:\n");
        lines(print, "    ", moon_buf_str(&test->warnings));
    }
}

static void print_all(const struct moon_test_print *print,
                      enum moon_test_outcome outcome)
{
    for (size_t i = 0; i < print->file_count; i++) {
        const struct moon_test_file *file = &print->files[i];
        for (size_t j = 0; j < file->count; j++) {
            if (file->cases[j]->ended && file->cases[j]->outcome == outcome)
                print_case(print, file, file->cases[j]);
        }
    }
}

static void print_outputs(const struct moon_test_print *print)
{
    for (size_t i = 0; i < print->file_count; i++) {
        const struct moon_test_file *file = &print->files[i];
        if (file->output.len == 0)
            continue;
        (void)fprintf(print->out, "\nOutput of %s\n", file->namez);
        lines(print, "", moon_buf_str(&file->output));
    }
}

static void print_sums(const struct moon_test_print *print, double seconds)
{
    struct moon_test_sums sums = {0};
    for (size_t i = 0; i < print->file_count; i++)
        moon_test_file_sum(&print->files[i], &sums);
    (void)fputc('\n', print->out);
    for (size_t i = 0; i < MOON_TEST_OUTCOMES; i++) {
        size_t n = sums.by_outcome[i];
        char text[64];
        (void)snprintf(text, sizeof(text), "%zu", n);
        (void)fputs(i > 0 ? " / " : "", print->out);
        addz(print, n > 0 ? outcomes[i].colourz : "", text);
        (void)fprintf(print->out, " %s",
                      n == 1 ? outcomes[i].onez : outcomes[i].manyz);
    }
    (void)fprintf(print->out, " : %.3f seconds\n", seconds);
}

void moon_test_print_summary(struct moon_test_print *print, double seconds)
{
    moon_test_print_marks(print);
    print_sums(print, seconds);
    print_outputs(print);
    print_all(print, MOON_TEST_PENDING);
    print_all(print, MOON_TEST_FAILED);
    print_all(print, MOON_TEST_ERROR);
    (void)fflush(print->out);
}
