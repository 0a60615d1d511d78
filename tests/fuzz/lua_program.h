/* Lua programs made of bytes: of every kind of loop, function and jump, and
 * always at an end, because all that could go on asks for fuel.
 *
 * They see four functions: log(...), tick() (false now and then; raises once
 * the fuel is gone), line() and say(value), which is value as text. */
#ifndef MOON_TESTS_FUZZ_LUA_PROGRAM_H
#define MOON_TESTS_FUZZ_LUA_PROGRAM_H

#include "fuzz.h"

/* Appends a program. */
void lua_program_write(struct fuzz_bytes *bytes, struct moon_buf *out);

#endif
