/* The table of `moonshine test --coverage`: reports of the children (their
 * format is in vm/coverage.h) put together. */
#ifndef MOON_NODE_TEST_COVERAGE_H
#define MOON_NODE_TEST_COVERAGE_H

#include "base/str.h"

#include <stdint.h>
#include <stdio.h>

/* One file of the application. */
struct moon_covered_file {
    char *namez;
    uint8_t *marks; /* by line number */
    size_t mark_count;
};

struct moon_test_coverage {
    struct moon_covered_file *files; /* by name; owned */
    size_t count;
};

/* What the framework ran is passed over. */
void moon_test_coverage_add(struct moon_test_coverage *coverage,
                            struct moon_str report);
void moon_test_coverage_print(const struct moon_test_coverage *coverage,
                              FILE *out);
void moon_test_coverage_deinit(struct moon_test_coverage *coverage);

#endif
