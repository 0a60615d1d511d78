/* Memory accounting and caps of one VM: the lua_Alloc of its lua_newstate.
 *
 * The soft cap of the VM and the cap of one slice (request) trip a callback
 * once, which makes the Lua code raise at its next safepoint; memory goes on
 * being handed out meanwhile. NULL comes only beyond the hard cap, never for a
 * shrink and never for what LuaJIT's collector may ask for, because a refusal
 * there cannot be unwound. Lives at least as long as its lua_State; used only
 * on the thread that runs that state. */
#ifndef MOON_VM_MEMORY_H
#define MOON_VM_MEMORY_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

struct moon_memory {
    size_t used, peak;
    size_t trip_at;    /* min(soft_limit, slice start + its allowance) */
    size_t soft_limit; /* of the VM */
    size_t hard_limit;
    size_t slice_limit; /* allowance of the running slice, for messages */
    /* Called when used first passes trip_at in a slice; must not allocate from
     * this VM nor raise. `limit` is the cap that was passed. */
    void (*on_trip)(void *ud, size_t limit);
    void *on_trip_ud;
};

/* No callback, no slice. A limit of 0 is none. */
void moon_memory_init(struct moon_memory *mem, size_t soft_limit,
                      size_t hard_limit);

void *moon_memory_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* A slice may use `allowance` bytes more than there are now; re-arms the
 * callback. SIZE_MAX: no cap but the VM's. */
static inline void moon_memory_begin_slice(struct moon_memory *mem,
                                           size_t allowance)
{
    size_t end = mem->used + allowance;
    mem->slice_limit = allowance;
    mem->trip_at =
        end < mem->used || end > mem->soft_limit ? mem->soft_limit : end;
}

/* Returns free pages of the C heap to the system: milliseconds, so it belongs
 * on the builder thread, after a VM was closed. */
void moon_memory_release_pages(void);

#endif
