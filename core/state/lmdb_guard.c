#include "state/lmdb_guard.h"

#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUARD_MAGIC 0x31304452475a4d4dull

enum { PAGE = 4096, OPENER = 0, USER = 1 };

_Static_assert(sizeof(struct moon_lmdb_shared) <= PAGE, "one page");

/* Locks of the open file, not of the process: other descriptors of it may be
 * closed without ending them. */
static int set_lock(int fd, short type, off_t byte)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

/* Would an exclusive lock conflict with somebody's? */
static bool is_locked(int fd, int how, off_t byte)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, how, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Written, not just lengthened: a mapped page without a block on a full disk
 * would kill the process that stores to it. */
static int fill(int fd)
{
    static const char zeros[PAGE];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    if (st.st_size == PAGE)
        return 0;
    if (ftruncate(fd, 0) < 0)
        return errno;
    ssize_t n = pwrite(fd, zeros, sizeof(zeros), 0);
    return n < 0 ? errno : n < PAGE ? ENOSPC : 0;
}

static int map(struct moon_lmdb_guard *guard)
{
    int sys = fill(guard->fd);
    if (sys != 0)
        return sys;
    void *at =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, guard->fd, 0);
    if (at == MAP_FAILED)
        return errno;
    guard->shared = at;
    if (guard->shared->magic != GUARD_MAGIC) {
        /* An epoch that nobody remembers from an earlier guard. */
        uint64_t epoch;
        moon_random_bytes(&epoch, sizeof(epoch));
        memset(at, 0, PAGE);
        atomic_store(&guard->shared->epoch, epoch | 1);
        guard->shared->magic = GUARD_MAGIC;
    }
    return 0;
}

static int enter(int dir_fd, struct moon_lmdb_guard *guard)
{
    guard->fd =
        openat(dir_fd, MOON_LMDB_GUARD,
               O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (guard->fd < 0)
        return errno;
    int sys = set_lock(guard->fd, F_WRLCK, OPENER);
    if (sys != 0)
        return sys == EACCES ? EAGAIN : sys;
    guard->id = moon_lmdb_file_id(dir_fd, MOON_LMDB_GUARD);
    struct stat st;
    if (fstat(guard->fd, &st) < 0)
        return errno;
    if (st.st_ino != guard->id.ino || st.st_dev != guard->id.dev)
        return EAGAIN; /* replaced between opening and locking */
    return map(guard);
}

int moon_lmdb_guard_enter(int dir_fd, struct moon_lmdb_guard *guard)
{
    *guard = (struct moon_lmdb_guard){.fd = -1};
    int sys = enter(dir_fd, guard);
    if (sys != 0)
        moon_lmdb_guard_close(guard);
    return sys;
}

void moon_lmdb_guard_leave(struct moon_lmdb_guard *guard, bool stay)
{
    if (stay)
        (void)set_lock(guard->fd, F_RDLCK, USER);
    (void)set_lock(guard->fd, F_UNLCK, OPENER);
}

void moon_lmdb_guard_close(struct moon_lmdb_guard *guard)
{
    if (guard->shared != NULL)
        (void)munmap(guard->shared, PAGE);
    if (guard->fd >= 0)
        (void)close(guard->fd);
    *guard = (struct moon_lmdb_guard){.fd = -1};
}

enum moon_lmdb_company moon_lmdb_guard_company(
    const struct moon_lmdb_guard *guard, int dir_fd)
{
    if (is_locked(guard->fd, F_OFD_GETLK, USER))
        return MOON_LMDB_WITH_OTHERS;
    int fd = openat(dir_fd, MOON_LMDB_LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return MOON_LMDB_ALONE;
    bool used = is_locked(fd, F_GETLK, 0);
    (void)close(fd);
    return used ? MOON_LMDB_WITH_STRANGERS : MOON_LMDB_ALONE;
}
