#include "node/keep.h"

#include "base/private_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCAN_MAX = 64, NAME_MAX_BYTES = 40 };

enum moon_err moon_keep_open(const char *state_dirz, const char *namez, int *fd,
                             struct moon_buf *error)
{
    char path[4096];
    size_t before = error->len;
    int n = snprintf(path, sizeof(path), "%s/snapshots/%s", state_dirz, namez);
    *fd = -1;
    if (n <= 0 || (size_t)n >= sizeof(path)) {
        moon_buf_printf(error, "cannot use %s for snapshots: %s", state_dirz,
                        strerror(ENAMETOOLONG));
        return MOON_ETOO_BIG;
    }
    moon_buf_printf(error, "cannot use %s for snapshots: ", path);
    if (!moon_private_dir_make(path, error))
        return MOON_EDENIED;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) {
        int sys = errno;
        moon_buf_addz(error, strerror(sys));
        return moon_err_from_errno(sys);
    }
    error->len = before;
    return MOON_OK;
}

static bool parse_name(const char *namez, uint64_t *number)
{
    const char *dot = strchr(namez, '.');
    return dot != NULL && strcmp(dot, ".snapshot") == 0 &&
           moon_str_to_u64(moon_str(namez, (size_t)(dot - namez)), number);
}

static void format_name(char *out, size_t size, uint64_t number)
{
    (void)snprintf(out, size, "%010llu.snapshot", (unsigned long long)number);
}

static void temp_name(char *out, size_t size, pid_t owner)
{
    (void)snprintf(out, size, "next-%d.tmp", (int)owner);
}

static int newest_first(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? 1 : *x > *y ? -1 : 0;
}

static uint32_t scan(int dir_fd, uint64_t numbers[SCAN_MAX])
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        (void)close(fd);
        return 0;
    }
    uint32_t count = 0;
    const struct dirent *entry;
    while (count < SCAN_MAX && (entry = readdir(dir)) != NULL) {
        uint64_t number;
        if (parse_name(entry->d_name, &number))
            numbers[count++] = number;
    }
    (void)closedir(dir);
    qsort(numbers, count, sizeof(numbers[0]), newest_first);
    return count;
}

uint32_t moon_keep_count(int dir_fd)
{
    uint64_t numbers[SCAN_MAX];
    return dir_fd < 0 ? 0 : scan(dir_fd, numbers);
}

enum moon_err moon_keep_get(int dir_fd, uint32_t nth, int *archive_fd)
{
    uint64_t numbers[SCAN_MAX];
    if (dir_fd < 0 || nth >= scan(dir_fd, numbers))
        return MOON_ENOT_FOUND;
    char name[NAME_MAX_BYTES];
    format_name(name, sizeof(name), numbers[nth]);
    *archive_fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return *archive_fd < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

enum moon_err moon_keep_begin(int dir_fd, pid_t owner, int *temp_fd)
{
    char name[NAME_MAX_BYTES];
    temp_name(name, sizeof(name), owner);
    *temp_fd =
        openat(dir_fd, name,
               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *temp_fd < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

enum moon_err moon_keep_write(int temp_fd, int archive_fd)
{
    char block[65536];
    off_t at = 0;
    for (;;) {
        ssize_t n = pread(archive_fd, block, sizeof(block), at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return moon_err_from_errno(errno);
        if (n == 0)
            break;
        for (ssize_t done = 0; done < n;) {
            ssize_t put =
                pwrite(temp_fd, block + done, (size_t)(n - done), at + done);
            if (put < 0 && errno == EINTR)
                continue;
            if (put <= 0)
                return moon_err_from_errno(errno);
            done += put;
        }
        at += n;
    }
    return fsync(temp_fd) < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

enum moon_err moon_keep_commit(int dir_fd, pid_t owner)
{
    uint64_t numbers[SCAN_MAX];
    char name[NAME_MAX_BYTES], temp[NAME_MAX_BYTES];
    temp_name(temp, sizeof(temp), owner);
    uint32_t count = scan(dir_fd, numbers);
    format_name(name, sizeof(name), count > 0 ? numbers[0] + 1 : 1);
    if (renameat(dir_fd, temp, dir_fd, name) < 0)
        return moon_err_from_errno(errno);
    for (uint32_t i = MOON_KEEP_COUNT - 1; i < count; i++) {
        format_name(name, sizeof(name), numbers[i]);
        (void)unlinkat(dir_fd, name, 0);
    }
    return fsync(dir_fd) < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

void moon_keep_abort(int dir_fd, pid_t owner)
{
    char name[NAME_MAX_BYTES];
    temp_name(name, sizeof(name), owner);
    (void)unlinkat(dir_fd, name, 0);
}

void moon_keep_clean(int dir_fd, pid_t owner)
{
    char own[NAME_MAX_BYTES];
    temp_name(own, sizeof(own), owner);
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".tmp") == 0 &&
            strcmp(entry->d_name, own) != 0)
            (void)unlinkat(dir_fd, entry->d_name, 0);
    }
    (void)closedir(dir);
}

void moon_keep_drop(int dir_fd, uint32_t count)
{
    uint64_t numbers[SCAN_MAX];
    char name[NAME_MAX_BYTES];
    uint32_t kept = scan(dir_fd, numbers);
    for (uint32_t i = 0; i < count && i < kept; i++) {
        format_name(name, sizeof(name), numbers[i]);
        (void)unlinkat(dir_fd, name, 0);
    }
    (void)fsync(dir_fd);
}

bool moon_keep_is_of(int dir_fd, const char *appz)
{
    char owner[PATH_MAX];
    int fd = openat(dir_fd, "app", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, owner, sizeof(owner));
    (void)close(fd);
    return len >= 0 &&
           moon_str_eq(moon_str(owner, (size_t)len), moon_strz(appz));
}

enum moon_err moon_keep_claim(int dir_fd, const char *appz)
{
    if (moon_keep_is_of(dir_fd, appz))
        return MOON_OK;
    moon_keep_drop(dir_fd, UINT32_MAX);
    int fd =
        openat(dir_fd, "app",
               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return moon_err_from_errno(errno);
    size_t len = strlen(appz);
    ssize_t put = write(fd, appz, len);
    enum moon_err err = put == (ssize_t)len && fsync(fd) == 0
                            ? MOON_OK
                            : moon_err_from_errno(errno);
    (void)close(fd);
    return err;
}
