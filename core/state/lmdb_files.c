#include "state/lmdb_files.h"

#include "base/compiler.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ASIDE MOON_LMDB_DATA ".corrupt-"

enum {
    LOCK_BYTES = 64 * 1024, /* room for about a thousand processes */
    ASIDE_MAX = 64,
};

int moon_lmdb_dir_open(const char *dirz, int *fd)
{
    if (mkdir(dirz, 0700) < 0 && errno != EEXIST)
        return errno;
    *fd = open(dirz, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? errno : 0;
}

struct moon_lmdb_file_id moon_lmdb_file_id(int dir_fd, const char *namez)
{
    struct stat st;
    struct moon_lmdb_file_id id = {0};
    if (fstatat(dir_fd, namez, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        id.dev = st.st_dev;
        id.ino = st.st_ino;
    }
    return id;
}

bool moon_lmdb_file_is(int dir_fd, const char *namez,
                       struct moon_lmdb_file_id id)
{
    struct moon_lmdb_file_id now = moon_lmdb_file_id(dir_fd, namez);
    return now.dev == id.dev && now.ino == id.ino;
}

/* ---- damaged files ---- */

static int later_first(const void *a, const void *b)
{
    return strcmp(b, a);
}

/* Names are times, so their order is theirs. */
static void drop_old(int dir_fd)
{
    char names[ASIDE_MAX][MOON_LMDB_ASIDE_NAME];
    size_t count = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    const struct dirent *entry;
    while (count < ASIDE_MAX && (entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (strncmp(entry->d_name, ASIDE, sizeof(ASIDE) - 1) == 0 &&
            len < MOON_LMDB_ASIDE_NAME)
            memcpy(names[count++], entry->d_name, len + 1);
    }
    (void)closedir(dir);
    qsort(names, count, sizeof(names[0]), later_first);
    for (size_t i = MOON_LMDB_ASIDE_COUNT; i < count; i++)
        (void)unlinkat(dir_fd, names[i], 0);
}

/* A name that is not taken. */
static void name_aside(int dir_fd, char namez[MOON_LMDB_ASIDE_NAME])
{
    struct timespec now;
    struct tm utc;
    char time[24];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    do {
        (void)gmtime_r(&now.tv_sec, &utc);
        (void)strftime(time, sizeof(time), "%Y%m%dT%H%M%S", &utc);
        (void)snprintf(namez, MOON_LMDB_ASIDE_NAME, ASIDE "%s.%03ldZ", time,
                       now.tv_nsec / 1000000);
        now.tv_nsec += 1000000;
    } while (faccessat(dir_fd, namez, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
             now.tv_nsec < 1000000000);
}

int moon_lmdb_set_aside(int dir_fd, char namez[MOON_LMDB_ASIDE_NAME])
{
    name_aside(dir_fd, namez);
    if (unlinkat(dir_fd, MOON_LMDB_LOCK, 0) < 0 && errno != ENOENT)
        return errno;
    if (renameat(dir_fd, MOON_LMDB_DATA, dir_fd, namez) < 0)
        return errno;
    drop_old(dir_fd);
    return 0;
}

/* ---- the lock file ---- */

int moon_lmdb_prepare_lock(int dir_fd)
{
    int fd = openat(dir_fd, MOON_LMDB_LOCK,
                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    int sys = posix_fallocate(fd, 0, LOCK_BYTES);
    (void)close(fd);
    return sys;
}

/* ---- sessions that are not kept ---- */

enum moon_err moon_lmdb_private_dir_name(const char *temp_dirz,
                                         char to[MOON_LMDB_PRIVATE_DIR])
{
    const char *parentz =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : temp_dirz;
    uint64_t bits[2];
    moon_random_bytes(bits, sizeof(bits));
    int n = snprintf(to, MOON_LMDB_PRIVATE_DIR,
                     "%s/moonshine-sessions-%016" PRIx64 "%016" PRIx64, parentz,
                     bits[0], bits[1]);
    return n > 0 && n < MOON_LMDB_PRIVATE_DIR ? MOON_OK : MOON_ETOO_BIG;
}

void moon_lmdb_private_dir_remove(const char *dirz)
{
    static const char *const names[] = {MOON_LMDB_DATA, MOON_LMDB_LOCK,
                                        MOON_LMDB_GUARD};
    int fd = open(dirz, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    for (size_t i = 0; i < MOON_COUNT(names); i++)
        (void)unlinkat(fd, names[i], 0);
    (void)close(fd);
    (void)rmdir(dirz);
}
