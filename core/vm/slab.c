#include "vm/slab.h"

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define SLAB_ALIGN ((size_t)65536)
/* With malloc's own header one slab ends where the next begins. */
#define SLAB_BYTES (SLAB_ALIGN - 16)

struct moon_slab {
    struct moon_slab *next, *prev; /* in its class' list, when it has room */
    void **freed;                  /* list through the freed blocks */
    char *fresh, *end;             /* never used so far */
    size_t used;                   /* blocks handed out */
    bool full;                     /* not in the list */
};

static void link_first(struct moon_slab **list, struct moon_slab *slab)
{
    slab->prev = NULL;
    slab->next = *list;
    if (slab->next != NULL)
        slab->next->prev = slab;
    *list = slab;
}

static void unlink_from(struct moon_slab **list, struct moon_slab *slab)
{
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        *list = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
}

MOON_COLD static struct moon_slab *new_slab(struct moon_slabs *slabs,
                                            size_t step)
{
    void *memory = slabs->spare;
    slabs->spare = NULL;
    if (memory == NULL && posix_memalign(&memory, SLAB_ALIGN, SLAB_BYTES) != 0)
        return NULL;
    struct moon_slab *slab = memory;
    size_t head = (sizeof(*slab) + 15) / 16 * 16;
    *slab = (struct moon_slab){.fresh = (char *)memory + head};
    slab->end = slab->fresh + (SLAB_BYTES - head) / step * step;
    return slab;
}

void *moon_slab_alloc(struct moon_slabs *slabs, size_t size)
{
    size_t class = (size - 1) / MOON_SLAB_STEP;
    size_t step = (class + 1) * MOON_SLAB_STEP;
    struct moon_slab *slab = slabs->roomy[class];
    if (MOON_UNLIKELY(slab == NULL)) {
        slab = new_slab(slabs, step);
        if (slab == NULL)
            return NULL;
        link_first(&slabs->roomy[class], slab);
    }
    void *block = slab->freed;
    if (block != NULL) {
        slab->freed = *(void **)block;
    } else {
        block = slab->fresh;
        slab->fresh += step;
    }
    slab->used++;
    if (slab->freed == NULL && slab->fresh == slab->end) {
        unlink_from(&slabs->roomy[class], slab);
        slab->full = true;
    }
    return block;
}

static void drop(struct moon_slabs *slabs, struct moon_slab *slab)
{
    if (slabs->spare == NULL)
        slabs->spare = slab;
    else
        free(slab);
}

void moon_slab_free(struct moon_slabs *slabs, void *block, size_t size)
{
    size_t class = (size - 1) / MOON_SLAB_STEP;
    struct moon_slab *slab =
        (struct moon_slab *)((uintptr_t)block & ~(uintptr_t)(SLAB_ALIGN - 1));
    *(void **)block = slab->freed;
    slab->freed = block;
    slab->used--;
    if (slab->full) {
        slab->full = false;
        link_first(&slabs->roomy[class], slab);
    }
    if (slab->used == 0) {
        unlink_from(&slabs->roomy[class], slab);
        drop(slabs, slab);
    }
}

void moon_slab_deinit(struct moon_slabs *slabs)
{
    free(slabs->spare);
    slabs->spare = NULL;
}
