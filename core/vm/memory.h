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
#include "vm/slab.h"

#include <stdbool.h>
#include <stddef.h>

/* A slice that starts in a VM near or beyond its soft cap still gets this much:
 * the VM's fullness is its owner's business, not the next request's fault. */
#define MOON_MEMORY_SLACK ((size_t)1 << 20)

struct lua_State;

struct moon_memory {
    size_t used, peak;
    size_t check_at;    /* the next size that needs a decision */
    size_t soft_limit;  /* of the VM */
    size_t hard_limit;  /* of the VM */
    size_t slice_limit; /* what is said to have been exceeded */
    bool tripped;       /* in this slice */
    bool starved;       /* the system has refused memory, once at least */
    /* Called when the cap of the slice or of the VM is first passed in a
     * slice, from inside an allocation: must not allocate from this VM nor
     * raise. `limit` is that cap in bytes. */
    void (*on_trip)(void *ud, size_t limit);
    void *on_trip_ud;
    struct moon_slabs slabs;
};

/* No callback, no slice. A limit of 0 is none. */
void moon_memory_init(struct moon_memory *mem, size_t soft_limit,
                      size_t hard_limit);

/* The lua_Alloc; `ud` is a struct moon_memory. When lua_close has given back
 * everything, the struct holds nothing any more. */
void *moon_memory_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* A slice may use `allowance` bytes more than are in use now, and the VM no
 * more than its soft cap; re-arms the callback. SIZE_MAX: only the VM's cap. */
static inline void moon_memory_begin_slice(struct moon_memory *mem,
                                           size_t allowance)
{
    size_t end = mem->used + MOON_MEMORY_SLACK;
    if (end < mem->soft_limit)
        end = mem->soft_limit;
    if (end > mem->hard_limit)
        end = mem->hard_limit;
    size_t room = end > mem->used ? end - mem->used : 0;
    bool own = allowance < room;
    mem->slice_limit = own ? allowance : mem->soft_limit;
    mem->check_at = mem->used + (own ? allowance : room);
    mem->tripped = false;
}

/* Paces the collector by the room that is left below the soft cap, so that
 * garbage alone does not reach it: by default LuaJIT lets a VM double first.
 * Called when a collector cycle has found out what is alive (from a
 * finalizer, say). A pause of 0, which only tests set, is left alone. */
void moon_memory_pace(const struct moon_memory *mem, struct lua_State *L);

/* Returns free pages of the C heap to the system: milliseconds, so it belongs
 * on the builder thread, after a VM was closed. */
void moon_memory_release_pages(void);

#endif
