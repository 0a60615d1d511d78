/* Keeps deep recursion of Lua from running over the C stack.
 *
 * LuaJIT bounds its own stack, but string.gsub and table.sort call back Lua on
 * the C stack, gsub with 8 KiB a level: a callback that calls gsub again and
 * again crashed the process. They are replaced by ones that raise in time.
 * (Nested coroutines, which use it too, are counted by moonshine.coro.) */
#ifndef MOON_VM_STACK_GUARD_H
#define MOON_VM_STACK_GUARD_H

struct lua_State;

/* The calling thread is to run Lua, from about this depth of its stack on. */
void moon_stack_guard_here(void);

/* Replaces the functions in a state whose standard libraries are open. Leaves
 * the stack as it was; may raise, so it runs protected. */
void moon_stack_guard_open(struct lua_State *L);

#endif
