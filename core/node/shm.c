#include "node/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM_MAGIC 0x31304d48534e4f4dull /* "MONSHM01" */
#define SHM_VERSION 10u

static size_t shm_size(uint32_t slots)
{
    return sizeof(struct moon_shm) +
           (size_t)slots * sizeof(struct moon_worker_slot);
}

bool moon_shm_find_room(uint32_t slots, uint32_t used_first, uint32_t used,
                        uint32_t workers, uint32_t *first)
{
    if (used == 0 || workers <= used_first) {
        *first = 0;
        return workers <= slots;
    }
    /* From the other end: whoever comes after that has the most room. */
    uint64_t end = (uint64_t)used_first + used;
    *first = slots - workers;
    return workers <= slots && *first >= end;
}

enum moon_err moon_shm_create(uint32_t slots, struct moon_shm **out, int *fd)
{
    size_t size = shm_size(slots);
    *fd = memfd_create("moonshine-node", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return moon_err_from_errno(errno);
    void *at = MAP_FAILED;
    if (ftruncate(*fd, (off_t)size) == 0)
        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (at == MAP_FAILED) {
        enum moon_err err = moon_err_from_errno(errno);
        (void)close(*fd);
        *fd = -1;
        return err;
    }
    /* A worker that could shrink it would kill all others with SIGBUS. */
    (void)fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    struct moon_shm *shm = at;
    shm->magic = SHM_MAGIC;
    shm->version = SHM_VERSION;
    shm->slot_count = slots;
    shm->size = size;
    *out = shm;
    return MOON_OK;
}

enum moon_err moon_shm_open(int fd, struct moon_shm **out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return moon_err_from_errno(errno);
    if ((size_t)st.st_size < sizeof(struct moon_shm))
        return MOON_EPROTO;
    size_t size = (size_t)st.st_size;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return moon_err_from_errno(errno);
    struct moon_shm *shm = at;
    if (shm->magic != SHM_MAGIC || shm->version != SHM_VERSION ||
        shm->size != size || shm_size(shm->slot_count) != size) {
        (void)munmap(at, size);
        return MOON_EPROTO;
    }
    *out = shm;
    return MOON_OK;
}

void moon_shm_close(struct moon_shm *shm)
{
    if (shm != NULL)
        (void)munmap(shm, shm->size);
}

void moon_shm_reset_slot(struct moon_worker_slot *slot)
{
    atomic_store(&slot->slice.seq, 0);
    atomic_store(&slot->slice.limit_ms, 0);
    moon_shm_set32(&slot->connections, 0);
    moon_shm_set32(&slot->stale, 0);
    moon_shm_set32(&slot->heartbeat, 0);
    moon_shm_set32(&slot->state, MOON_WORKER_NONE);
    moon_shm_set32(&slot->exchanges, 0);
    moon_shm_set32(&slot->generations_live, 0);
    moon_shm_set32(&slot->tasks, 0);
    moon_shm_set32(&slot->coroutines, 0);
    moon_shm_set32(&slot->lua_refs, 0);
    moon_shm_set32(&slot->handles, 0);
    moon_shm_set32(&slot->timers, 0);
    moon_shm_set(&slot->generation, 0);
    moon_shm_set(&slot->running_at, 0);
    moon_shm_set(&slot->vm_used_bytes, 0);
    moon_shm_set(&slot->vm_limit_bytes, 0);
    moon_shm_set(&slot->lag_us, 0);
    moon_shm_set32(&slot->overloaded, 0);
    atomic_store(&slot->pid, 0);
    atomic_store(&slot->tid, 0);
}

static void add_connections(const struct moon_shm *shm,
                            const struct moon_shm_side *side, uint64_t *sum,
                            uint32_t *live)
{
    uint32_t first = moon_shm_get32(&side->first);
    uint32_t count = moon_shm_get32(&side->workers);
    for (uint32_t i = first; i < shm->slot_count && i - first < count; i++) {
        const struct moon_worker_slot *slot = &shm->slots[i];
        if (moon_shm_get32(&slot->state) != MOON_WORKER_SERVING ||
            moon_shm_get32(&slot->stale) != 0)
            continue;
        *sum += moon_shm_get32(&slot->connections);
        (*live)++;
    }
}

uint32_t moon_shm_average_connections(void *ctx)
{
    const struct moon_shm *shm = ctx;
    uint64_t sum = 0;
    uint32_t live = 0;
    for (int i = 0; i < MOON_SHM_SIDES; i++)
        add_connections(shm, &shm->sides[i], &sum, &live);
    return live > 0 ? (uint32_t)(sum / live) : 0;
}

uint64_t moon_shm_sum(const struct moon_shm *shm, enum moon_counter counter)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < shm->slot_count; i++)
        sum += moon_shm_get(&shm->slots[i].counters[counter]);
    return sum;
}

const char *moon_death_name(enum moon_death death)
{
    static const char *const names[] = {
#define X(name) #name,
        MOON_DEATH_MAP(X)
#undef X
    };
    return names[death];
}

const char *moon_counter_name(enum moon_counter counter)
{
    static const char *const names[] = {
#define X(name, help) #name,
        MOON_COUNTER_MAP(X)
#undef X
    };
    return names[counter];
}

const char *moon_counter_help(enum moon_counter counter)
{
    static const char *const texts[] = {
#define X(name, help) help,
        MOON_COUNTER_MAP(X)
#undef X
    };
    return texts[counter];
}
