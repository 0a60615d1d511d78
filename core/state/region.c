#include "state/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGION_MAGIC 0x3130474552534e4dull /* "MNSREG01" */
#define GIB ((size_t)1 << 30)

enum { REGION_VERSION = 1, ALIGN = 4096 };

struct extent {
    char name[MOON_EXTENT_NAME];
    uint32_t layout;
    _Atomic uint32_t ready; /* its init is over */
    uint64_t offset, size;
};

/* At the start of the mapping. */
struct head {
    uint64_t magic;
    uint32_t version, mutex_size; /* the C library's may change */
    uint64_t size;
    pthread_mutex_t lock;
    uint64_t end; /* of what is given out */
    _Atomic uint32_t count;
    struct extent extents[MOON_EXTENTS_MAX];
};

struct moon_region {
    struct head *head;
    size_t size;
};

/* ---- mutexes ---- */

void moon_robust_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;
    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(mutex, &attr);
    (void)pthread_mutexattr_destroy(&attr);
}

bool moon_robust_lock(pthread_mutex_t *mutex)
{
    if (MOON_LIKELY(pthread_mutex_lock(mutex) == 0))
        return true;
    (void)pthread_mutex_consistent(mutex);
    return false;
}

void moon_robust_unlock(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_unlock(mutex);
}

/* ---- the mapping ---- */

static struct moon_region *wrap(void *at, size_t size)
{
    struct moon_region *region = malloc(sizeof(*region));
    if (region == NULL) {
        (void)munmap(at, size);
        return NULL;
    }
    *region = (struct moon_region){.head = at, .size = size};
    /* It may be larger than the disk that a core dump goes to. */
    (void)madvise(at, size, MADV_DONTDUMP);
    return region;
}

static void *map(int fd, size_t size)
{
    int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void *map_new(int fd, size_t *size)
{
    static const size_t sizes[] = {64 * GIB, 8 * GIB, 2 * GIB, GIB / 2,
                                   GIB / 16};
    for (size_t i = 0; i < MOON_COUNT(sizes); i++) {
        *size = sizes[i];
        if (fd >= 0 && ftruncate(fd, (off_t)*size) != 0)
            continue;
        void *at = map(fd, *size);
        if (at != NULL)
            return at;
    }
    return NULL;
}

enum moon_err moon_region_create(struct moon_region **out, int *fd)
{
    int own = -1;
    size_t size = 0;
    if (fd != NULL) {
        own = memfd_create("moonshine-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (own < 0)
            return moon_err_from_errno(errno);
    }
    void *at = map_new(own, &size);
    struct moon_region *region = at == NULL ? NULL : wrap(at, size);
    if (region == NULL) {
        if (own >= 0)
            (void)close(own);
        return MOON_ENOMEM;
    }
    if (own >= 0) {
        /* A worker that could shrink it would kill all others with SIGBUS. */
        (void)fcntl(own, F_ADD_SEALS,
                    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        *fd = own;
    }
    struct head *head = region->head;
    head->magic = REGION_MAGIC;
    head->version = REGION_VERSION;
    head->mutex_size = sizeof(pthread_mutex_t);
    head->size = size;
    head->end = (sizeof(*head) + ALIGN - 1) / ALIGN * ALIGN;
    moon_robust_init(&head->lock);
    *out = region;
    return MOON_OK;
}

enum moon_err moon_region_open(int fd, struct moon_region **out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return moon_err_from_errno(errno);
    size_t size = (size_t)st.st_size;
    if (size < sizeof(struct head))
        return MOON_EPROTO;
    void *at = map(fd, size);
    if (at == NULL)
        return MOON_ENOMEM;
    const struct head *head = at;
    if (head->magic != REGION_MAGIC || head->version != REGION_VERSION ||
        head->mutex_size != sizeof(pthread_mutex_t) || head->size != size) {
        (void)munmap(at, size);
        return MOON_EPROTO;
    }
    *out = wrap(at, size);
    return *out == NULL ? MOON_ENOMEM : MOON_OK;
}

void moon_region_close(struct moon_region *region)
{
    if (region == NULL)
        return;
    (void)munmap(region->head, region->size);
    free(region);
}

/* ---- extents ---- */

/* What the directory says may have been overwritten by a worker. */
static bool is_sound(const struct moon_region *region,
                     const struct extent *extent)
{
    return extent->offset % ALIGN == 0 && extent->offset <= region->size &&
           extent->size <= region->size - extent->offset;
}

static struct extent *find(const struct moon_region *region, const char *namez,
                           uint32_t layout, size_t size)
{
    struct head *head = region->head;
    uint32_t count = atomic_load_explicit(&head->count, memory_order_acquire);
    for (uint32_t i = 0; i < count && i < MOON_EXTENTS_MAX; i++) {
        struct extent *extent = &head->extents[i];
        if (extent->layout == layout && (size == 0 || extent->size == size) &&
            strncmp(extent->name, namez, sizeof(extent->name)) == 0 &&
            is_sound(region, extent))
            return extent;
    }
    return NULL;
}

static struct extent *add(struct moon_region *region, const char *namez,
                          uint32_t layout, size_t size)
{
    struct head *head = region->head;
    uint32_t count = atomic_load(&head->count);
    size_t whole = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (count >= MOON_EXTENTS_MAX || whole < size || head->end > region->size ||
        whole > region->size - head->end)
        return NULL;
    struct extent *extent = &head->extents[count];
    memset(extent, 0, sizeof(*extent));
    strncpy(extent->name, namez, sizeof(extent->name) - 1);
    extent->layout = layout;
    extent->offset = head->end;
    extent->size = size;
    head->end += whole;
    atomic_store_explicit(&head->count, count + 1, memory_order_release);
    return extent;
}

void *moon_region_extent(struct moon_region *region, const char *namez,
                         uint32_t layout, size_t size, moon_region_init *init,
                         void *ctx)
{
    void *at = NULL;
    if (size == 0 || strlen(namez) >= MOON_EXTENT_NAME)
        return NULL;
    /* An owner that died left at most an extent that is not ready. */
    (void)moon_robust_lock(&region->head->lock);
    struct extent *extent = find(region, namez, layout, size);
    if (extent == NULL)
        extent = add(region, namez, layout, size);
    if (extent != NULL) {
        at = (char *)region->head + extent->offset;
        if (atomic_load(&extent->ready) == 0) {
            if (init != NULL)
                init(at, size, ctx);
            atomic_store_explicit(&extent->ready, 1, memory_order_release);
        }
    }
    moon_robust_unlock(&region->head->lock);
    return at;
}

void *moon_region_find(struct moon_region *region, const char *namez,
                       uint32_t layout, size_t size, size_t *found_size)
{
    struct extent *extent = find(region, namez, layout, size);
    if (extent == NULL ||
        atomic_load_explicit(&extent->ready, memory_order_acquire) == 0)
        return NULL;
    if (found_size != NULL)
        *found_size = extent->size;
    return (char *)region->head + extent->offset;
}
