/* What a VM of `moonshine test` is told, and what it tells.
 *
 * Lua (moonshine/test/spec.lua) loads one spec file and runs its tests one
 * after another; whoever made the VM hears of each step. */
#ifndef MOON_VM_VM_TEST_H
#define MOON_VM_VM_TEST_H

#include "base/str.h"

#include <stdint.h>

/* In this order: PLAN, then for each test BEGIN, STEPs, END, then DONE. A
 * failure outside of a test is one with an empty name. The numbers are known
 * to Lua. */
enum moon_test_event {
    MOON_TEST_PLAN = 1, /* number: how many tests will run */
    MOON_TEST_BEGIN,    /* text: full name NUL "file:line"; number: 1 for one of
                           the plan, 0 for a failure outside of tests */
    MOON_TEST_STEP,     /* text: what runs now, "before_each at file:line" */
    MOON_TEST_END,      /* number: enum moon_test_outcome; text: the parts
                           below, each but the last ended by NUL */
    MOON_TEST_DONE,
    MOON_TEST_LOG, /* from C: number: the level; text: the line */
};

enum moon_test_outcome {
    MOON_TEST_PASSED,
    MOON_TEST_FAILED,  /* an assertion */
    MOON_TEST_ERROR,   /* anything else that ended it */
    MOON_TEST_PENDING, /* not written yet */
    MOON_TEST_OUTCOMES,
};

/* Of a MOON_TEST_END; empty where there is nothing to say. */
enum moon_test_part {
    MOON_TEST_KIND,    /* "assertion" "error" "cpu" "memory" "timeout" */
    MOON_TEST_PLACE,   /* "spec/a_spec.lua:12" */
    MOON_TEST_MESSAGE, /* lines */
    MOON_TEST_SOURCE,  /* the line of the place */
    MOON_TEST_DIFF,    /* lines that begin with "- ", "+ " or two spaces */
    MOON_TEST_TRACE,   /* lines */
    MOON_TEST_PARTS,
};

struct moon_vm_test {
    const char *filez;   /* the spec: a name of the archive, or absolute */
    const char *filterz; /* only tests whose full name has this; NULL: all */
    uint64_t limit_ms;   /* for each test and each hook */
    /* From inside Lua: must not enter the VM. */
    void (*event)(void *ctx, enum moon_test_event event, uint32_t number,
                  struct moon_str text);
    void *ctx;
};

#endif
