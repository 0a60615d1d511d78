/* Functions that the framework reaches as "moonshine.native": those that need
 * the Lua C API because they take or make tables, or load code.
 *
 * Ordinary lua_CFunctions: they run inside the gate's protected region, may
 * raise, never yield. */
#ifndef MOON_VM_VM_NATIVE_H
#define MOON_VM_VM_NATIVE_H

#include <lua.h>

/* Takes [module name], leaves the table of natives. May raise. */
int moon_native_open(lua_State *L);

/* vm_native_app.c: adds what builds the table of routes to the table on top of
 * the stack. May raise. */
void moon_native_open_app(lua_State *L);
/* vm_native_limit.c: the same for limits. May raise. */
void moon_native_open_limit(lua_State *L);

#endif
