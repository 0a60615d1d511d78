#include "base/archive.h"

#include "base/hash.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "MOONARC"
#define VERSION 1u

/* As stored; numbers little endian. Behind each name and each file's bytes
 * stands a NUL that its length does not count. */
struct header {
    char magic[8];
    uint32_t version, count;
    uint64_t total; /* bytes of the whole archive */
};

struct entry {
    uint64_t name_at, name_len, data_at, data_len;
};

struct moon_archive {
    _Atomic uint32_t refs;
    uint32_t count;
    const char *base; /* mapped */
    size_t size;
};

/* ---- reading ---- */

static void get_entry(const struct moon_archive *archive, size_t index,
                      struct moon_str *name, struct moon_str *bytes)
{
    struct entry e;
    memcpy(&e, archive->base + sizeof(struct header) + index * sizeof(e),
           sizeof(e));
    *name = moon_str(archive->base + le64toh(e.name_at),
                     (size_t)le64toh(e.name_len));
    *bytes = moon_str(archive->base + le64toh(e.data_at),
                      (size_t)le64toh(e.data_len));
}

static int compare(struct moon_str a, struct moon_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Room for `len` bytes and their NUL at `at`? */
static bool inside(uint64_t at, uint64_t len, uint64_t first, uint64_t size)
{
    return at >= first && at < size && len < size - at;
}

static bool is_sound(struct moon_archive *archive)
{
    struct header h;
    memcpy(&h, archive->base, sizeof(h));
    if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 ||
        le32toh(h.version) != VERSION || le64toh(h.total) != archive->size)
        return false;
    archive->count = le32toh(h.count);
    uint64_t first =
        sizeof(h) + (uint64_t)archive->count * sizeof(struct entry);
    if (first > archive->size)
        return false;
    struct moon_str before = MOON_STR_NONE, name, bytes;
    for (size_t i = 0; i < archive->count; i++) {
        struct entry e;
        memcpy(&e, archive->base + sizeof(h) + i * sizeof(e), sizeof(e));
        if (!inside(le64toh(e.name_at), le64toh(e.name_len), first,
                    archive->size) ||
            !inside(le64toh(e.data_at), le64toh(e.data_len), first,
                    archive->size))
            return false;
        get_entry(archive, i, &name, &bytes);
        if (name.ptr[name.len] != '\0' || bytes.ptr[bytes.len] != '\0' ||
            name.len == 0 || compare(before, name) >= 0)
            return false;
        before = name;
    }
    return true;
}

enum moon_err moon_archive_open(int fd, struct moon_archive **out)
{
    struct stat st;
    *out = NULL;
    if (fstat(fd, &st) != 0)
        return moon_err_from_errno(errno);
    if (st.st_size < (off_t)sizeof(struct header))
        return MOON_EPROTO;
    struct moon_archive *archive = malloc(sizeof(*archive));
    if (archive == NULL)
        return MOON_ENOMEM;
    archive->refs = 1;
    archive->size = (size_t)st.st_size;
    void *base = mmap(NULL, archive->size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        int sys = errno;
        free(archive);
        return moon_err_from_errno(sys);
    }
    archive->base = base;
    if (!is_sound(archive)) {
        moon_archive_unref(archive);
        return MOON_EPROTO;
    }
    *out = archive;
    return MOON_OK;
}

void moon_archive_ref(struct moon_archive *archive)
{
    atomic_fetch_add_explicit(&archive->refs, 1, memory_order_relaxed);
}

void moon_archive_unref(struct moon_archive *archive)
{
    if (archive == NULL ||
        atomic_fetch_sub_explicit(&archive->refs, 1, memory_order_acq_rel) > 1)
        return;
    (void)munmap((void *)(uintptr_t)archive->base, archive->size);
    free(archive);
}

bool moon_archive_find(const struct moon_archive *archive, struct moon_str name,
                       struct moon_str *bytes)
{
    size_t low = 0, high = archive->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct moon_str at;
        get_entry(archive, middle, &at, bytes);
        int order = compare(at, name);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *bytes = MOON_STR_NONE;
    return false;
}

size_t moon_archive_count(const struct moon_archive *archive)
{
    return archive->count;
}

void moon_archive_entry(const struct moon_archive *archive, size_t index,
                        struct moon_str *name, struct moon_str *bytes)
{
    get_entry(archive, index, name, bytes);
}

void moon_archive_hash(const struct moon_archive *archive, char hex[33])
{
    struct moon_hash hash;
    moon_hash_init(&hash);
    for (size_t i = 0; i < archive->count; i++) {
        struct moon_str name, bytes;
        get_entry(archive, i, &name, &bytes);
        moon_hash_add(&hash, name);
        moon_hash_add(&hash, bytes);
    }
    moon_hash_hex(&hash, hex);
}

/* ---- writing ---- */

struct file {
    char *text; /* name, NUL, bytes, NUL: one allocation */
    size_t name_len, data_len;
};

struct moon_archive_writer {
    struct file *files;
    size_t count, cap, max_files, bytes, max_bytes;
    uint32_t *slots; /* hash of names: index + 1, 0 is free */
    size_t slot_count;
};

static struct moon_str file_name(const struct file *file)
{
    return moon_str(file->text, file->name_len);
}

struct moon_archive_writer *moon_archive_writer_create(size_t max_files,
                                                       size_t max_bytes)
{
    struct moon_archive_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return NULL;
    writer->max_files = max_files < UINT32_MAX / 4 ? max_files : UINT32_MAX / 4;
    writer->max_bytes = max_bytes;
    return writer;
}

static void writer_destroy(struct moon_archive_writer *writer)
{
    for (size_t i = 0; i < writer->count; i++)
        free(writer->files[i].text);
    free(writer->files);
    free(writer->slots);
    free(writer);
}

static uint32_t *find_slot(const struct moon_archive_writer *writer,
                           struct moon_str name)
{
    struct moon_hash hash;
    moon_hash_init(&hash);
    moon_hash_add(&hash, name);
    size_t at = (size_t)hash.lanes[1] & (writer->slot_count - 1);
    for (;; at = (at + 1) & (writer->slot_count - 1)) {
        uint32_t held = writer->slots[at];
        if (held == 0 || moon_str_eq(file_name(&writer->files[held - 1]), name))
            return &writer->slots[at];
    }
}

/* The table of slots stays at most half full. */
static bool make_room(struct moon_archive_writer *writer)
{
    if (writer->count < writer->cap)
        return true;
    size_t cap = writer->cap == 0 ? 64 : writer->cap * 2;
    struct file *files = realloc(writer->files, cap * sizeof(*files));
    if (files == NULL)
        return false;
    writer->files = files;
    uint32_t *slots = calloc(cap * 2, sizeof(*slots));
    if (slots == NULL)
        return false;
    free(writer->slots);
    writer->slots = slots;
    writer->slot_count = cap * 2;
    writer->cap = cap;
    for (size_t i = 0; i < writer->count; i++)
        *find_slot(writer, file_name(&files[i])) = (uint32_t)i + 1;
    return true;
}

enum moon_err moon_archive_writer_add(struct moon_archive_writer *writer,
                                      struct moon_str name,
                                      struct moon_str bytes)
{
    if (name.len == 0)
        return MOON_EINVAL;
    if (!make_room(writer))
        return MOON_ENOMEM;
    uint32_t *slot = find_slot(writer, name);
    if (*slot != 0)
        return MOON_EEXISTS;
    if (writer->count >= writer->max_files ||
        bytes.len > writer->max_bytes - writer->bytes)
        return MOON_ETOO_BIG;
    char *text = malloc(name.len + bytes.len + 2);
    if (text == NULL)
        return MOON_ENOMEM;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    if (bytes.len > 0)
        memcpy(text + name.len + 1, bytes.ptr, bytes.len);
    text[name.len + 1 + bytes.len] = '\0';
    writer->files[writer->count++] = (struct file){text, name.len, bytes.len};
    writer->bytes += bytes.len;
    *slot = (uint32_t)writer->count;
    return MOON_OK;
}

static int by_name(const void *a, const void *b)
{
    return compare(file_name(a), file_name(b));
}

static enum moon_err write_fully(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno != EINTR)
            return moon_err_from_errno(errno);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return MOON_OK;
}

static enum moon_err write_archive(struct moon_archive_writer *writer, int fd)
{
    struct moon_buf head = {0};
    size_t at = sizeof(struct header) + writer->count * sizeof(struct entry);
    struct header h = {
        .magic = MAGIC,
        .version = htole32(VERSION),
        .count = htole32((uint32_t)writer->count),
    };
    moon_buf_add(&head, &h, sizeof(h));
    for (size_t i = 0; i < writer->count; i++) {
        const struct file *file = &writer->files[i];
        struct entry e = {
            .name_at = htole64(at),
            .name_len = htole64(file->name_len),
            .data_at = htole64(at + file->name_len + 1),
            .data_len = htole64(file->data_len),
        };
        moon_buf_add(&head, &e, sizeof(e));
        at += file->name_len + file->data_len + 2;
    }
    if (head.failed)
        return MOON_ENOMEM;
    h.total = htole64(at);
    memcpy(head.ptr, &h, sizeof(h));
    enum moon_err err = write_fully(fd, head.ptr, head.len);
    moon_buf_deinit(&head);
    for (size_t i = 0; i < writer->count && err == MOON_OK; i++) {
        const struct file *file = &writer->files[i];
        err = write_fully(fd, file->text, file->name_len + file->data_len + 2);
    }
    return err;
}

enum moon_err moon_archive_writer_finish(struct moon_archive_writer *writer,
                                         int *fd)
{
    *fd = -1;
    int memfd = memfd_create("moonshine-code", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    enum moon_err err = memfd < 0 ? moon_err_from_errno(errno) : MOON_OK;
    if (err == MOON_OK) {
        if (writer->count > 0)
            qsort(writer->files, writer->count, sizeof(*writer->files),
                  by_name);
        err = write_archive(writer, memfd);
    }
    /* Sealed, so that nobody who holds it can pull pages from under a VM. */
    if (err == MOON_OK &&
        fcntl(memfd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        err = moon_err_from_errno(errno);
    writer_destroy(writer);
    if (err == MOON_OK)
        *fd = memfd;
    else if (memfd >= 0)
        (void)close(memfd);
    return err;
}
