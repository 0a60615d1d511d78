#include "vm/memory.h"

#include <lua.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Small requests may pass the hard cap by this much, so that the error that
 * ends a hog can be raised and collected. */
#define RESERVE ((size_t)1 << 20)
#define SMALL ((size_t)4096)
#define SMALL_HEAP ((size_t)8 << 20)

void moon_memory_init(struct moon_memory *mem, size_t soft_limit,
                      size_t hard_limit)
{
    *mem = (struct moon_memory){
        .soft_limit = soft_limit == 0 ? SIZE_MAX : soft_limit,
        .hard_limit = hard_limit == 0 ? SIZE_MAX / 4 : hard_limit,
    };
    moon_memory_begin_slice(mem, SIZE_MAX);
}

/* LuaJIT resizes its string table by allocating the new one, a power of two,
 * also while it collects. At 8 bytes a string it is below half of what the
 * strings take; the same shape is used for string buffers, hence the bound. */
static bool may_be_string_table(const struct moon_memory *mem, size_t osize,
                                size_t nsize)
{
    return osize == 0 && (nsize & (nsize - 1)) == 0 &&
           nsize <= mem->hard_limit / 2;
}

/* Whether the growth to `after` bytes in use is refused. */
static bool refuse(struct moon_memory *mem, size_t osize, size_t nsize,
                   size_t after)
{
    if (!mem->tripped) {
        mem->tripped = true;
        if (mem->on_trip != NULL)
            mem->on_trip(mem->on_trip_ud, mem->slice_limit);
        mem->check_at = mem->hard_limit;
    }
    if (after <= mem->hard_limit)
        return false;
    if (nsize <= SMALL)
        return after > mem->hard_limit + mem->hard_limit / 2 + RESERVE;
    if (may_be_string_table(mem, osize, nsize))
        return after > mem->hard_limit + mem->hard_limit / 2;
    return true;
}

static void release(struct moon_memory *mem, void *ptr, size_t size)
{
    if (size == 0)
        return;
    if (size <= MOON_SLAB_MAX)
        moon_slab_free(&mem->slabs, ptr, size);
    else
        free(ptr);
}

static void *acquire(struct moon_memory *mem, size_t size)
{
    return size <= MOON_SLAB_MAX ? moon_slab_alloc(&mem->slabs, size)
                                 : malloc(size);
}

/* osize and nsize are not 0. */
static void *resize(struct moon_memory *mem, void *ptr, size_t osize,
                    size_t nsize)
{
    if (osize > MOON_SLAB_MAX && nsize > MOON_SLAB_MAX)
        return realloc(ptr, nsize);
    if (osize <= MOON_SLAB_MAX && moon_slab_same(osize, nsize))
        return ptr;
    void *block = acquire(mem, nsize);
    if (block == NULL)
        return NULL;
    memcpy(block, ptr, osize < nsize ? osize : nsize);
    release(mem, ptr, osize);
    return block;
}

/* `after` bytes will be in use, and no limit is in the way. */
static void *take(struct moon_memory *mem, void *block, size_t after)
{
    mem->used = after;
    if (after > mem->peak)
        mem->peak = after;
    return block;
}

MOON_COLD static void *starve(struct moon_memory *mem)
{
    mem->starved = true;
    return NULL;
}

/* All but what moon_memory_alloc does itself. */
MOON_APART static void *allocate(struct moon_memory *mem, void *ptr,
                                 size_t osize, size_t nsize)
{
    size_t after = mem->used - osize + nsize;
    if (nsize > osize && MOON_UNLIKELY(after > mem->check_at) &&
        refuse(mem, osize, nsize, after))
        return NULL;
    void *block =
        osize == 0 ? acquire(mem, nsize) : resize(mem, ptr, osize, nsize);
    if (MOON_LIKELY(block != NULL))
        return take(mem, block, after);
    if (nsize > osize || nsize <= MOON_SLAB_MAX)
        return starve(mem);
    return take(mem, ptr, after); /* a shrink that does not happen */
}

void *moon_memory_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct moon_memory *mem = ud;
    size_t after = mem->used - osize + nsize;
    if (nsize == 0) {
        release(mem, ptr, osize);
        mem->used = after;
        if (MOON_UNLIKELY(after == 0))
            moon_slab_deinit(&mem->slabs);
        return NULL;
    }
    /* Most of what LuaJIT asks for is small and new. */
    if (osize == 0 && nsize <= MOON_SLAB_MAX && after <= mem->check_at) {
        void *block = moon_slab_alloc(&mem->slabs, nsize);
        return MOON_LIKELY(block != NULL) ? take(mem, block, after)
                                          : starve(mem);
    }
    return allocate(mem, ptr, osize, nsize);
}

static int clamp(size_t value, int low, int high)
{
    return value < (size_t)low ? low : value > (size_t)high ? high : (int)value;
}

void moon_memory_pace(const struct moon_memory *mem, lua_State *L)
{
    enum { PAUSE_LEAST = 105, SPEED = 200, SPEED_MOST = 2000 };
    /* A small heap may grow to four times its size: marking it again and again
     * would cost more than those few MiB are worth. */
    int pause_most = mem->used < SMALL_HEAP ? 400 : 200;
    size_t room = mem->soft_limit > mem->used ? mem->soft_limit - mem->used : 0;
    /* The next cycle starts when half the room is gone and must be through
     * before the other half is. */
    size_t used = mem->used / 1024 | 1, half = room / 2048 | 1;
    int pause = clamp(100 + 100 * half / used, PAUSE_LEAST, pause_most);
    if (half > used)
        half = used;
    if (lua_gc(L, LUA_GCSETPAUSE, pause) == 0) {
        (void)lua_gc(L, LUA_GCSETPAUSE, 0);
        return;
    }
    int speed =
        half == used ? SPEED : clamp(300 * used / half, SPEED, SPEED_MOST);
    (void)lua_gc(L, LUA_GCSETSTEPMUL, speed);
}

void moon_memory_release_pages(void)
{
    (void)malloc_trim(0);
}
