/* What came of the tests: one record per test, in files, filled from the
 * events that the children send (vm/vm_test.h). Parent of `moonshine test`;
 * one thread. Without memory the process says so and ends. */
#ifndef MOON_NODE_TEST_RESULTS_H
#define MOON_NODE_TEST_RESULTS_H

#include "base/buf.h"
#include "base/log.h"
#include "vm/vm_test.h"

struct moon_test_case {
    struct moon_str name;  /* "describe inner it"; empty: the file itself */
    struct moon_str place; /* where it is written: "spec/a_spec.lua:12" */
    bool ended;
    enum moon_test_outcome outcome;
    uint64_t took_ns;
    struct moon_str parts[MOON_TEST_PARTS];
    struct moon_buf log;      /* all lines, "warn  message", each ended */
    struct moon_buf warnings; /* those of level warn and above */
    struct moon_buf step;     /* what of it ran last, "before_each at ..." */
    struct moon_buf begin_text, end_text; /* what the texts above borrow */
};

struct moon_test_file {
    const char *namez;             /* borrowed */
    struct moon_test_case **cases; /* owned */
    size_t count, cap;
    uint32_t planned, begun; /* tests that it means to run, and did */
    uint64_t took_ns;
    struct moon_buf log;    /* lines outside of tests */
    struct moon_buf output; /* what was written to stdout and stderr */
    bool done;              /* nothing more will come */
};

struct moon_test_sums {
    size_t by_outcome[MOON_TEST_OUTCOMES];
    size_t tests;
};

/* A message from the child of this file. */
void moon_test_file_event(struct moon_test_file *file,
                          enum moon_test_event event, uint32_t number,
                          uint64_t took_ns, struct moon_str text);
/* An error that the child did not report: of the test that runs; if none does,
 * under this name. A place at the beginning of the message ("app.lua:3: ") is
 * that of the error. */
void moon_test_file_fail(struct moon_test_file *file, const char *kindz,
                         const char *namez, struct moon_str message);
/* The test that began and did not end; NULL. */
struct moon_test_case *moon_test_file_running(const struct moon_test_file *f);
void moon_test_file_sum(const struct moon_test_file *file,
                        struct moon_test_sums *sums);
void moon_test_file_deinit(struct moon_test_file *file);

/* Says that memory is out, and ends the process. */
MOON_NORETURN void moon_test_no_memory(void);

#endif
