/* Small blocks of one VM, carved from 64 KiB slabs of one size class each.
 *
 * LuaJIT tells the size of what it frees, so blocks need no header, and
 * neighbours in time are neighbours in memory, which its sweep depends on: with
 * plain malloc, table-heavy code took up to five times as long. A slab without
 * a block in use goes back to malloc. Owned by a VM's moon_memory, one thread
 * at a time; only slab creation can fail (NULL). */
#ifndef MOON_VM_SLAB_H
#define MOON_VM_SLAB_H

#include <stddef.h>

#define MOON_SLAB_STEP 16
#define MOON_SLAB_MAX 512 /* larger blocks are not for slabs */

struct moon_slab;

/* Zero-initialised is valid and empty. */
struct moon_slabs {
    /* Per class, slabs with room; the first is allocated from. */
    struct moon_slab *roomy[MOON_SLAB_MAX / MOON_SLAB_STEP];
    struct moon_slab *spare; /* an empty one, against thrashing */
};

/* 0 < size <= MOON_SLAB_MAX; aligned to 16. */
void *moon_slab_alloc(struct moon_slabs *slabs, size_t size);
void moon_slab_free(struct moon_slabs *slabs, void *block, size_t size);

/* Whether both sizes are served by the same class. */
static inline int moon_slab_same(size_t a, size_t b)
{
    return (a - 1) / MOON_SLAB_STEP == (b - 1) / MOON_SLAB_STEP;
}

/* Frees what is left; all blocks must have been freed. */
void moon_slab_deinit(struct moon_slabs *slabs);

#endif
