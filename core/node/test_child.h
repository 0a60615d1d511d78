/* The child's side of `moonshine test`: what its VM is told, and what becomes
 * of what it says. One spec file a process, loop thread. */
#ifndef MOON_NODE_TEST_CHILD_H
#define MOON_NODE_TEST_CHILD_H

#include "node/probe.h"
#include "vm/vm_test.h"

/* First thing in the child: takes over the standard streams, sends log lines to
 * the parent, which shows them with their test, and counts lines if asked. */
void moon_test_child_begin(int control_fd, const struct moon_probe_test *test);
/* For moon_vm_options; static. */
const struct moon_vm_test *moon_test_child_options(
    const struct moon_probe_test *test);
/* The spec was run to its end. */
bool moon_test_child_is_done(void);

#endif
