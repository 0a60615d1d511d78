#include "base/clock.h"
#include "base/log.h"
#include "vm/vm_internal.h"

/* After a request was stopped for its memory: collects what it left behind, in
 * pieces of a millisecond between loop turns, because a full collection would
 * hold up everybody. Two cycles: the one that was under way may have found the
 * garbage while it was still in use. */

enum { CYCLES = 2, PIECE_NS = 1000000 };

/* Protected: finalizers may raise. */
static int collect_piece(lua_State *L)
{
    struct moon_vm *vm = lua_touserdata(L, 1);
    uint64_t until = moon_clock_ns() + PIECE_NS;
    do {
        if (lua_gc(L, LUA_GCSTEP, 0) != 0 && --vm->cycles_wanted == 0)
            break;
    } while (moon_clock_ns() < until);
    return 0;
}

static void on_turn(uv_idle_t *handle)
{
    struct moon_vm *vm = handle->data;
    moon_vm_set_here(vm);
    moon_memory_begin_slice(&vm->memory, SIZE_MAX);
    if (moon_vm_call_protected(vm, collect_piece, vm, NULL) != MOON_OK)
        moon_log(MOON_LOG_WARN, "a finalizer (__gc) failed");
    moon_vm_set_here(NULL);
    if (vm->cycles_wanted > 0)
        return;
    (void)uv_idle_stop(handle);
    vm->stats.collections++;
}

void moon_vm_collect(struct moon_vm *vm)
{
    vm->cycles_wanted = CYCLES;
    if (vm->loop != NULL && vm->phase < MOON_VM_CLOSING)
        (void)uv_idle_start(&vm->collect_handle, on_turn);
}
