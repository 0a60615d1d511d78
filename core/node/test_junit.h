/* The results of `moonshine test` as JUnit XML, as continuous integration
 * servers read it: one testsuite a file. */
#ifndef MOON_NODE_TEST_JUNIT_H
#define MOON_NODE_TEST_JUNIT_H

#include "node/test_results.h"

void moon_test_junit(struct moon_buf *out, const struct moon_test_file *files,
                     size_t file_count, double seconds);

#endif
