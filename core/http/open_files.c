#include "http/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEY_BYTES = 255 }; /* a longer path is not kept */

/* Times of files move in steps of the kernel's clock: of one that was changed
 * just now, another change may not show. */
static const time_t SETTLED_S = 2;

struct entry {
    struct moon_static_file file; /* fd owned */
    struct stat st;
    uint64_t opened_ms;
    int root_fd;
    char *bytes; /* owned, all of the file; NULL: too large */
    uint8_t key_len;
    char key[KEY_BYTES];
};

/* Two paths that fall on one place push each other out, which costs an open. */
struct moon_open_files {
    struct entry *places[MOON_OPEN_FILES_MAX];
};

struct moon_open_files *moon_open_files_create(void)
{
    return calloc(1, sizeof(struct moon_open_files));
}

static void drop(struct moon_open_files *files, uint32_t place)
{
    struct entry *entry = files->places[place];
    files->places[place] = NULL;
    if (entry == NULL)
        return;
    if (entry->file.fd >= 0)
        (void)close(entry->file.fd);
    free(entry->bytes);
    free(entry);
}

void moon_open_files_destroy(struct moon_open_files *files)
{
    if (files == NULL)
        return;
    for (uint32_t i = 0; i < MOON_OPEN_FILES_MAX; i++)
        drop(files, i);
    free(files);
}

static bool is_over(const struct entry *entry, uint64_t now_ms)
{
    return now_ms - entry->opened_ms >= MOON_OPEN_FILES_MS;
}

void moon_open_files_sweep(struct moon_open_files *files, uint64_t now_ms)
{
    for (uint32_t i = 0; i < MOON_OPEN_FILES_MAX; i++)
        if (files->places[i] != NULL && is_over(files->places[i], now_ms))
            drop(files, i);
}

static uint32_t place_of(int root_fd, struct moon_str path)
{
    uint64_t hash = (uint64_t)root_fd + 1;
    for (size_t i = 0; i < path.len; i++)
        hash = (hash ^ (unsigned char)path.ptr[i]) * 0x100000001b3u;
    return (uint32_t)(hash * 0x9e3779b97f4a7c15u >> 32) % MOON_OPEN_FILES_MAX;
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Is the file what it was, and does it still have a name? A rename, a new mode
 * and a lost link show in the ctime. */
static bool is_unchanged(const struct entry *entry)
{
    struct stat st;
    return fstat(entry->file.fd, &st) == 0 && st.st_nlink > 0 &&
           st.st_size == entry->st.st_size &&
           is_same_time(st.st_mtim, entry->st.st_mtim) &&
           is_same_time(st.st_ctim, entry->st.st_ctim);
}

static struct entry *find(const struct moon_open_files *files, uint32_t place,
                          uint64_t now_ms, int root_fd, struct moon_str path)
{
    struct entry *entry = files->places[place];
    if (entry == NULL || entry->root_fd != root_fd ||
        entry->key_len != path.len || is_over(entry, now_ms) ||
        memcmp(entry->key, path.ptr, path.len) != 0 || !is_unchanged(entry))
        return NULL;
    return entry;
}

/* What an entry gives; false: it cannot (no descriptor is left). */
static bool give(const struct entry *entry, struct moon_open_file *out)
{
    out->file = entry->file;
    out->bytes = MOON_STR_NONE;
    if (entry->bytes != NULL) {
        out->file.fd = -1;
        out->bytes = moon_str(entry->bytes, (size_t)entry->file.size);
        return true;
    }
    out->file.fd = fcntl(entry->file.fd, F_DUPFD_CLOEXEC, 0);
    return out->file.fd >= 0;
}

/* The whole of a small file; NULL if it cannot be had, or is not what fstat
 * said. */
static char *read_all(int fd, size_t size)
{
    char *bytes = malloc(size + 1);
    if (bytes == NULL)
        return NULL;
    /* One byte more would say that it has grown. */
    ssize_t n = pread(fd, bytes, size + 1, 0);
    if (n >= 0 && (size_t)n == size)
        return bytes;
    free(bytes);
    return NULL;
}

static bool is_settled(const struct stat *st)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return st->st_mtim.tv_sec + SETTLED_S < now.tv_sec &&
           st->st_ctim.tv_sec + SETTLED_S < now.tv_sec;
}

/* Keeps a file that was just opened: its descriptor is the entry's from then
 * on. NULL: it is not to be kept, and nothing has happened. */
static struct entry *keep(struct moon_open_files *files, uint32_t place,
                          uint64_t now_ms, int root_fd, struct moon_str path,
                          const struct moon_static_file *file)
{
    struct stat st;
    if (path.len > KEY_BYTES || fstat(file->fd, &st) != 0 || !is_settled(&st))
        return NULL;
    struct entry *entry = malloc(sizeof(*entry));
    if (entry == NULL)
        return NULL;
    entry->bytes = NULL;
    if (file->size <= MOON_OPEN_FILES_BYTES) {
        entry->bytes = read_all(file->fd, (size_t)file->size);
        if (entry->bytes == NULL) {
            free(entry);
            return NULL;
        }
    }
    entry->file = *file;
    entry->st = st;
    entry->opened_ms = now_ms;
    entry->root_fd = root_fd;
    entry->key_len = (uint8_t)path.len;
    if (path.len > 0)
        memcpy(entry->key, path.ptr, path.len);
    drop(files, place);
    files->places[place] = entry;
    return entry;
}

enum moon_err moon_open_files_get(struct moon_open_files *files,
                                  uint64_t now_ms, int root_fd,
                                  struct moon_str path, struct moon_str index,
                                  struct moon_open_file *out)
{
    uint32_t place = place_of(root_fd, path);
    const struct entry *entry = find(files, place, now_ms, root_fd, path);
    if (entry != NULL && give(entry, out))
        return MOON_OK;
    out->bytes = MOON_STR_NONE;
    enum moon_err err = moon_static_open(root_fd, path, index, &out->file);
    if (err != MOON_OK)
        return err;
    entry = keep(files, place, now_ms, root_fd, path, &out->file);
    if (entry == NULL || give(entry, out))
        return MOON_OK;
    /* Too few descriptors for both: the caller's goes first. */
    out->file = entry->file;
    files->places[place]->file.fd = -1;
    drop(files, place);
    return MOON_OK;
}
