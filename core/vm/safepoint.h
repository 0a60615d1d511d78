/* Source instrumentation: makes every Lua loop and recursion stoppable.
 *
 * Compiled loops never look at debug hooks, so each loop head, function entry
 * and backward goto of application and library code gets a counter that calls
 * `__moon_check` (vm/budget.h) now and then. The text grows but no line number
 * moves. `__moon_check` is reached through the string metatable, so it works
 * under any setfenv and takes no upvalue and no local.
 * Stateless; any thread. Code that cannot be instrumented is loaded as it is.
 */
#ifndef MOON_VM_SAFEPOINT_H
#define MOON_VM_SAFEPOINT_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <stdbool.h>

struct lua_State;

/* Iterations or calls between two looks at the trip word. */
#define MOON_SAFEPOINT_EVERY 1000

/* Appends the instrumented `source` to *out. *instrumented is false when there
 * was nothing to count (the text is then appended unchanged). Fails with
 * MOON_EPROTO when the text is not Lua as far as the parser can tell, and
 * MOON_ENOMEM; *out then holds rubbish behind its old length. */
MOON_MUST_CHECK enum moon_err moon_safepoint_instrument(struct moon_str source,
                                                        struct moon_buf *out,
                                                        bool *instrumented);

/* luaL_loadbuffer with instrumentation. Leaves the function, or an error
 * message that speaks of the original text; returns the Lua status. Binary
 * chunks are refused. *fell_back (may be NULL) is set when the code runs with
 * fewer counters than it should have: the caller warns. */
int moon_safepoint_load(struct lua_State *L, struct moon_str source,
                        const char *chunk_namez, bool *fell_back);

/* Replaces load, loadstring, loadfile and dofile by ones that instrument.
 * Takes the global table from LUA_GLOBALSINDEX; leaves the stack as it was; may
 * raise (memory). */
void moon_safepoint_open(struct lua_State *L);

#endif
