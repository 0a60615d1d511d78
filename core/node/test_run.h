/* Runs the spec files of an application, each in a probe of its own, some side
 * by side, and keeps their account. Parent of `moonshine test`; one thread. */
#ifndef MOON_NODE_TEST_RUN_H
#define MOON_NODE_TEST_RUN_H

#include "node/layers.h"
#include "node/test_coverage.h"
#include "node/test_print.h"

struct moon_test_run {
    /* Given; all borrowed. */
    const struct moon_node_options *node;
    const struct moon_test_options *options;
    const struct moon_app_paths *paths;
    uint64_t load_timeout_ms;
    struct moon_test_file *files; /* with their names; filled */
    size_t file_count;
    struct moon_test_print print; /* of the same files: marks as they come */
    /* What came of it. */
    size_t not_run; /* files: the app did not load, or it was interrupted */
    bool interrupted;
    struct moon_test_coverage coverage; /* to be freed */
};

/* Returns when all is over; false if it cannot begin. */
MOON_MUST_CHECK bool moon_test_run(struct moon_test_run *run);

#endif
