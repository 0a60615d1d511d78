/* Reads what a server sent on one connection, as a client that believes
 * nothing. */
#ifndef MOON_TESTS_FUZZ_ANSWERS_H
#define MOON_TESTS_FUZZ_ANSWERS_H

#include "base/buf.h"

/* Fails unless `bytes` are whole, well-formed responses, one behind the other
 * and none after one that says Connection: close; an X-M field is the method of
 * its request. Appends a line for each to *told: status, body and whether
 * another may follow; of refusals only that, and no 100. */
void answers_read(struct moon_str bytes, struct moon_buf *told);

#endif
