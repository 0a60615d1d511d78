#include "node/test_coverage.h"

#include "base/buf.h"
#include "node/test_results.h"

#include <stdlib.h>

enum { CAN_RUN = 1, HAS_RUN = 2 };
enum { LINE_MAX_NUMBER = 1 << 24, MISSED_WIDTH = 40 };

static struct moon_covered_file *find(struct moon_test_coverage *coverage,
                                      struct moon_str name)
{
    char *namez = strndup(name.ptr, name.len);
    if (namez == NULL)
        moon_test_no_memory();
    size_t at = 0;
    int order = -1;
    while (at < coverage->count &&
           (order = strcmp(coverage->files[at].namez, namez)) < 0)
        at++;
    if (order == 0) {
        free(namez);
        return &coverage->files[at];
    }
    struct moon_covered_file *grown = realloc(
        coverage->files, (coverage->count + 1) * sizeof(*coverage->files));
    if (grown == NULL)
        moon_test_no_memory();
    coverage->files = grown;
    memmove(grown + at + 1, grown + at,
            (coverage->count - at) * sizeof(*grown));
    coverage->count++;
    grown[at] = (struct moon_covered_file){.namez = namez};
    return &grown[at];
}

static void mark(struct moon_covered_file *file, uint64_t line, uint8_t how)
{
    if (line >= file->mark_count) {
        size_t count = (size_t)line + 256;
        uint8_t *grown = realloc(file->marks, count);
        if (grown == NULL)
            moon_test_no_memory();
        memset(grown + file->mark_count, 0, count - file->mark_count);
        file->marks = grown;
        file->mark_count = count;
    }
    file->marks[line] |= how;
}

/* "3-5 9" */
static void mark_ranges(struct moon_covered_file *file, struct moon_str text,
                        uint8_t how)
{
    while (text.len > 0) {
        struct moon_str last_text;
        struct moon_str range = moon_str_cut(text, ' ', &text);
        struct moon_str first_text = moon_str_cut(range, '-', &last_text);
        uint64_t first, last;
        if (!moon_str_to_u64(first_text, &first))
            continue;
        if (!moon_str_to_u64(last_text, &last))
            last = first;
        for (uint64_t i = first; i <= last && i < LINE_MAX_NUMBER; i++)
            mark(file, i, how);
    }
}

void moon_test_coverage_add(struct moon_test_coverage *coverage,
                            struct moon_str report)
{
    struct moon_covered_file *file = NULL;
    while (report.len > 0) {
        struct moon_str rest;
        struct moon_str line = moon_str_cut(report, '\n', &report);
        struct moon_str word = moon_str_cut(line, ' ', &rest);
        if (moon_str_eq(word, MOON_STR("file")))
            file = moon_str_starts(rest, MOON_STR("moonshine/"))
                       ? NULL
                       : find(coverage, rest);
        else if (file != NULL && moon_str_eq(word, MOON_STR("can")))
            mark_ranges(file, rest, CAN_RUN);
        else if (file != NULL && moon_str_eq(word, MOON_STR("ran")))
            mark_ranges(file, rest, HAS_RUN);
    }
}

static void print_row(FILE *out, size_t width, const char *namez, size_t can,
                      size_t ran, const char *missedz)
{
    double percent = can > 0 ? 100.0 * (double)ran / (double)can : 100.0;
    (void)fprintf(out, "%-*s  %6zu  %6zu  %5.1f%%%s%s\n", (int)width, namez,
                  can, ran, percent, missedz[0] != '\0' ? "  " : "", missedz);
}

static void add_missed(struct moon_buf *out, size_t from, size_t to)
{
    if (out->len > MISSED_WIDTH)
        return;
    if (out->len > 0)
        moon_buf_addz(out, ", ");
    moon_buf_printf(out, from == to ? "%zu" : "%zu-%zu", from, to);
    if (out->len > MISSED_WIDTH)
        moon_buf_addz(out, " ...");
}

/* Lines that could run and did not; a run of them goes on over lines that
 * cannot run. */
static void list_missed(const struct moon_covered_file *file,
                        struct moon_buf *out)
{
    size_t from = 0, to = 0;
    for (size_t line = 1; line < file->mark_count; line++) {
        if ((file->marks[line] & CAN_RUN) == 0)
            continue;
        bool missed = (file->marks[line] & HAS_RUN) == 0;
        if (missed && from == 0)
            from = line;
        if (missed)
            to = line;
        if (!missed && from != 0) {
            add_missed(out, from, to);
            from = 0;
        }
    }
    if (from != 0)
        add_missed(out, from, to);
    moon_buf_add_char(out, '\0');
    if (out->failed)
        moon_test_no_memory();
}

void moon_test_coverage_print(const struct moon_test_coverage *coverage,
                              FILE *out)
{
    size_t width = sizeof("total") - 1, can = 0, ran = 0;
    for (size_t i = 0; i < coverage->count; i++) {
        if (strlen(coverage->files[i].namez) > width)
            width = strlen(coverage->files[i].namez);
    }
    (void)fprintf(out, "\n%-*s  %6s  %6s  %6s  %s\n", (int)width, "file",
                  "lines", "ran", "", "missed");
    for (size_t i = 0; i < coverage->count; i++) {
        const struct moon_covered_file *file = &coverage->files[i];
        size_t file_can = 0, file_ran = 0;
        for (size_t line = 0; line < file->mark_count; line++) {
            file_can += (file->marks[line] & CAN_RUN) != 0;
            file_ran += file->marks[line] == (CAN_RUN | HAS_RUN);
        }
        struct moon_buf missed = {0};
        list_missed(file, &missed);
        print_row(out, width, file->namez, file_can, file_ran, missed.ptr);
        moon_buf_deinit(&missed);
        can += file_can;
        ran += file_ran;
    }
    print_row(out, width, "total", can, ran, "");
}

void moon_test_coverage_deinit(struct moon_test_coverage *coverage)
{
    for (size_t i = 0; i < coverage->count; i++) {
        free(coverage->files[i].namez);
        free(coverage->files[i].marks);
    }
    free(coverage->files);
    *coverage = (struct moon_test_coverage){0};
}
