#include "base/arena.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 8192 };

struct moon_arena_block {
    struct moon_arena_block *next;
    _Alignas(MOON_ARENA_ALIGN) char bytes[];
};

void moon_arena_init(struct moon_arena *arena, void *first, size_t size)
{
    arena->first = first;
    arena->first_size = size;
    arena->blocks = NULL;
    arena->at = first;
    arena->end = arena->at + size;
    MOON_POISON(first, size);
}

void moon_arena_reset(struct moon_arena *arena)
{
    while (MOON_UNLIKELY(arena->blocks != NULL)) {
        struct moon_arena_block *block = arena->blocks;
        arena->blocks = block->next;
        free(block);
    }
    arena->at = arena->first;
    arena->end = arena->first + arena->first_size;
    MOON_POISON(arena->first, arena->first_size);
}

/* The slow path of alloc. A large piece gets a block of its own, behind the
 * current one, so that the rest of the current block stays in use. */
void *moon_arena_alloc_block(struct moon_arena *arena, size_t size)
{
    if (MOON_UNLIKELY(size > SIZE_MAX / 2))
        return NULL;
    size = (size + MOON_ARENA_ALIGN - 1) & ~(MOON_ARENA_ALIGN - 1);
    size_t bytes = size > BLOCK_BYTES / 4 ? size : BLOCK_BYTES;
    struct moon_arena_block *block = malloc(sizeof(*block) + bytes);
    if (block == NULL)
        return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    if (bytes == BLOCK_BYTES) {
        arena->at = block->bytes + size;
        arena->end = block->bytes + bytes;
        MOON_POISON(arena->at, bytes - size);
    }
    return block->bytes;
}

struct moon_str moon_arena_copy(struct moon_arena *arena, struct moon_str s)
{
    char *copy = moon_arena_alloc(arena, s.len + 1);
    if (copy == NULL)
        return MOON_STR_NONE;
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return moon_str(copy, s.len);
}
