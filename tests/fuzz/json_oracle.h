/* Is a text JSON (RFC 8259)? A plain recogniser to compare others with, sharing
 * no code with them. */
#ifndef MOON_TESTS_FUZZ_JSON_ORACLE_H
#define MOON_TESTS_FUZZ_JSON_ORACLE_H

#include "base/str.h"

/* In UTF-8, without a byte order mark, every escape a whole character, numbers
 * within what a double holds, nested at most `depth` deep. */
bool json_oracle_accepts(struct moon_str text, int depth);

#endif
