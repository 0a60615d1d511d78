#include "base/clock.h"
#include "base/log.h"
#include "vm/vm_internal.h"

/* After a request was stopped for its memory: collects what it left behind, in
 * pieces of a millisecond between loop turns, because a full collection would
 * hold up everybody. Two cycles: the one that was under way may have found the
 * garbage while it was still in use. More as long as they free much: LuaJIT
 * halves its string buffer, which may be all that is left, once a cycle. */

enum { CYCLES = 2, PIECE_NS = 1000000 };

/* A cycle is over: was it the last one? */
static bool is_clean(struct moon_vm *vm)
{
    size_t before = vm->used_before_cycle;
    vm->used_before_cycle = vm->memory.used;
    if (vm->memory.used >= before - before / 8)
        vm->cycles_wanted--;
    return vm->cycles_wanted == 0;
}

/* Protected: finalizers may raise. */
static int collect_piece(lua_State *L)
{
    struct moon_vm *vm = lua_touserdata(L, 1);
    uint64_t until = moon_clock_ns() + PIECE_NS;
    do {
        if (lua_gc(L, LUA_GCSTEP, 0) != 0 && is_clean(vm))
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
    vm->used_before_cycle = vm->memory.used;
    if (vm->loop != NULL && vm->phase < MOON_VM_CLOSING)
        (void)uv_idle_start(&vm->collect_handle, on_turn);
}
