/* Memory of one lifetime: allocate freely, give it all back at once.
 *
 * The first block is part of the owner (a request object keeps it between
 * requests), further ones come from malloc and are freed by reset. Not thread
 * safe; an arena belongs to the loop of its owner. Nothing with a destructor
 * lives here: what is not memory is released by its owner explicitly. */
#ifndef MOON_BASE_ARENA_H
#define MOON_BASE_ARENA_H

#include "base/compiler.h"
#include "base/str.h"

#define MOON_ARENA_ALIGN ((size_t)16)

struct moon_arena_block;

struct moon_arena {
    char *at, *end; /* free part of the current block */
    char *first;    /* the owner's block, borrowed until deinit */
    size_t first_size;
    struct moon_arena_block *blocks; /* owned, newest first */
};

/* `first` is borrowed until the arena is no longer used; may be NULL with
 * size 0. */
void moon_arena_init(struct moon_arena *arena, void *first, size_t size);

/* Frees all blocks but the first; every pointer handed out dies. */
void moon_arena_reset(struct moon_arena *arena);

/* 16-byte aligned, uninitialised, valid until reset; NULL: memory is out. */
MOON_COLD void *moon_arena_alloc_block(struct moon_arena *arena, size_t size);
MOON_MUST_CHECK static inline void *moon_arena_alloc(struct moon_arena *arena,
                                                     size_t size)
{
    size_t need = (size + MOON_ARENA_ALIGN - 1) & ~(MOON_ARENA_ALIGN - 1);
    if (MOON_UNLIKELY(need < size || need > (size_t)(arena->end - arena->at)))
        return moon_arena_alloc_block(arena, size);
    void *piece = arena->at;
    arena->at += need;
    MOON_UNPOISON(piece, size);
    return piece;
}

/* A copy, with a NUL behind it for the edges; ptr is NULL when memory is
 * out. */
MOON_MUST_CHECK struct moon_str moon_arena_copy(struct moon_arena *arena,
                                                struct moon_str s);

#endif
