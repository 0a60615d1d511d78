/* Allocations that fail. Below a sanitizer's runtime in name only: this library
 * comes first, and what is next is the sanitizer's. */
#include "faults.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef void *malloc_fn(size_t);
typedef void *calloc_fn(size_t, size_t);
typedef void *realloc_fn(void *, size_t);
typedef void *aligned_fn(size_t, size_t);
typedef int memalign_fn(void **, size_t, size_t);
typedef void free_fn(void *);

static malloc_fn *real_malloc;
static calloc_fn *real_calloc;
static realloc_fn *real_realloc;
static aligned_fn *real_aligned;
static memalign_fn *real_memalign;
static free_fn *real_free;

/* What looking these up asks for itself. */
static char early[16384] __attribute__((aligned(16)));
static size_t early_used;
static bool looking;

static void *take_early(size_t size)
{
    size_t need = (size + 15) / 16 * 16;
    if (need > sizeof(early) - early_used)
        abort();
    void *at = early + early_used;
    early_used += need;
    return at; /* never used before, so it is zero */
}

static bool is_early(const void *ptr)
{
    return (uintptr_t)ptr >= (uintptr_t)early &&
           (uintptr_t)ptr < (uintptr_t)early + sizeof(early);
}

/* The process has one thread then: the dynamic linker's. */
static bool look_up(void)
{
    if (real_free != NULL)
        return true;
    if (looking)
        return false;
    looking = true;
    *(void **)&real_malloc = fault_next("malloc");
    *(void **)&real_calloc = fault_next("calloc");
    *(void **)&real_realloc = fault_next("realloc");
    *(void **)&real_aligned = fault_next("aligned_alloc");
    *(void **)&real_memalign = fault_next("posix_memalign");
    *(void **)&real_free = fault_next("free");
    looking = false;
    return true;
}

static bool refused(const void *caller)
{
    struct fault fault = fault_from(FAULT_ALLOC, -1, NULL, caller);
    if (fault.hit)
        errno = fault.error;
    return fault.hit;
}

void *malloc(size_t size)
{
    if (!look_up())
        return take_early(size);
    return refused(__builtin_return_address(0)) ? NULL : real_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (!look_up())
        return take_early(count * size);
    return refused(__builtin_return_address(0)) ? NULL
                                                : real_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    if (is_early(ptr)) {
        size_t most = (size_t)(early + sizeof(early) - (char *)ptr);
        void *moved = malloc(size);
        return moved == NULL ? NULL
                             : memcpy(moved, ptr, size < most ? size : most);
    }
    if (!look_up())
        return take_early(size);
    return refused(__builtin_return_address(0)) ? NULL
                                                : real_realloc(ptr, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    (void)look_up();
    return refused(__builtin_return_address(0)) ? NULL
                                                : real_aligned(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    (void)look_up();
    int keep = errno;
    bool no = refused(__builtin_return_address(0));
    errno = keep;
    return no ? ENOMEM : real_memalign(out, align, size);
}

void free(void *ptr)
{
    if (!is_early(ptr) && look_up())
        real_free(ptr);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    FAULT_REAL(mmap);
    return fault_fails(FAULT_MAP, fd, NULL)
               ? MAP_FAILED
               : real(at, size, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    return mmap(at, size, prot, flags, fd, offset);
}
