/* Durations and sizes as people write them: "250ms", "30s", "64k", "10m".
 *
 * Pure functions over text. A failure says what is wrong and what is allowed;
 * the text is quoted as it was given. */
#ifndef MOON_BASE_UNITS_H
#define MOON_BASE_UNITS_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

/* Milliseconds from a number of seconds ("2", "0.5") or a number with a unit
 * (ms s m h d). Rounded up, so that nothing but 0 becomes 0. */
MOON_MUST_CHECK enum moon_err moon_duration_parse(struct moon_str text,
                                                  uint64_t *ms, char *error,
                                                  size_t error_size);

/* Bytes from a number, or a number with a unit (k m g t: powers of 1024, in
 * either case, a "b" or "ib" behind it is ignored). */
MOON_MUST_CHECK enum moon_err moon_size_parse(struct moon_str text,
                                              uint64_t *bytes, char *error,
                                              size_t error_size);

/* The shortest text that parses to the same: "1500ms", "30s", "12h". */
void moon_duration_format(uint64_t ms, char *to, size_t size);
void moon_size_format(uint64_t bytes, char *to, size_t size);

#endif
