/* The results of `moonshine test` on the terminal, as busted shows them: a mark
 * for each test while they run, then the sums, then all that is not good. */
#ifndef MOON_NODE_TEST_PRINT_H
#define MOON_NODE_TEST_PRINT_H

#include "node/test_results.h"

#include <stdio.h>

struct moon_test_print {
    FILE *out;
    bool colour;
    struct moon_test_file *files; /* borrowed, as all below */
    size_t file_count;
    size_t at_file, at_case; /* whose mark comes next */
};

/* Colour if `out` is a terminal and NO_COLOR is not set. */
void moon_test_print_init(struct moon_test_print *print, FILE *out,
                          struct moon_test_file *files, size_t file_count);
/* Marks of what is known in the order of the files: one that is not done holds
 * up those behind it. */
void moon_test_print_marks(struct moon_test_print *print);
/* Everything else, once all are done. */
void moon_test_print_summary(struct moon_test_print *print, double seconds);

#endif
