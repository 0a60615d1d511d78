/* Numbers as JSON writes them, to and from doubles, whatever the locale.
 *
 * Pure functions that allocate nothing. */
#ifndef MOON_VM_JSON_NUMBER_H
#define MOON_VM_JSON_NUMBER_H

#include <stddef.h>

#define MOON_JSON_NUMBER_SIZE 32

/* Writes the shortest text that reads back as the same finite double, in the
 * form that JavaScript chooses (1e21, 0.000001, 1e-7), and returns its length.
 * `to` has MOON_JSON_NUMBER_SIZE bytes; no NUL is written. */
size_t moon_json_number_write(double value, char *to);

enum moon_json_number {
    MOON_JSON_NUMBER_OK,
    MOON_JSON_NUMBER_MALFORMED,
    MOON_JSON_NUMBER_RANGE /* well-formed, but no finite double is near */
};

/* Reads one number by RFC 8259's grammar, rounded correctly. *at moves to the
 * byte behind it, or to the one that does not fit the grammar. */
enum moon_json_number moon_json_number_read(const char **at, const char *end,
                                            double *out);

#endif
