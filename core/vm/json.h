/* JSON for applications and for responses: RFC 8259, strict both ways.
 *
 * Lists made by decode or by json.array(t) carry a metatable, the array mark,
 * so that an empty one prints as []; null is the light userdata NULL. Any
 * thread may use these functions on a lua_State that it owns. Text that is not
 * JSON, and values that have no JSON form, are reported as codes; only Lua's
 * own out of memory raises, so callers run inside a protected call. Metamethods
 * are never called. */
#ifndef MOON_VM_JSON_H
#define MOON_VM_JSON_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <lua.h>
#include <stdbool.h>

/* Tables within tables, counting the outermost; the same for both ways, so
 * that what was encoded can be decoded. */
#define MOON_JSON_MAX_DEPTH 100

/* Room that every error text of this module fits in. */
#define MOON_JSON_ERROR_SIZE 320

/* Appends the value at `index` to `out`. MOON_EINVAL for a value that has no
 * JSON form, with a text in `error` that names its path; MOON_ENOMEM when
 * `out` or the Lua stack cannot grow. After a failure what was appended is cut
 * off again. Leaves the stack as it was; raises only when Lua is out of memory
 * while its stack grows.
 *
 * A string that is not UTF-8 is refused: stored data never changes silently. */
MOON_MUST_CHECK enum moon_err moon_json_encode(lua_State *L, int index,
                                               struct moon_buf *out,
                                               char *error, size_t error_size);

/* The same, but bytes that are not UTF-8 become U+FFFD. For responses, where
 * an echoed parameter with a bad byte must not turn into an error. */
MOON_MUST_CHECK enum moon_err moon_json_encode_lossy(lua_State *L, int index,
                                                     struct moon_buf *out,
                                                     char *error,
                                                     size_t error_size);

/* Pushes the value of `text`, which must stay unchanged meanwhile. MOON_EPROTO
 * with line and column in `error`, and nothing pushed, if it is not JSON.
 * Raises only when Lua is out of memory. */
MOON_MUST_CHECK enum moon_err moon_json_decode(lua_State *L,
                                               struct moon_str text,
                                               char *error, size_t error_size);

/* Pushes the metatable that marks arrays, made on first use. Bindings that
 * hand out lists set it on them. May raise (out of memory). */
void moon_json_push_array_mark(lua_State *L);

/* Its identity as lua_topointer tells it, NULL if it was never made. */
const void *moon_json_array_mark(lua_State *L);

/* lua_CFunction: returns the table {encode, decode, null, array, is_array}. Its
 * argument, if any, is how many KiB encode may make. */
int moon_json_open(lua_State *L);

#endif
