/* Snapshots of code: bytes that claim to be one (the input), and one that is
 * made of the input's lines, "name=bytes". */
#include "fuzz.h"

#include "base/archive.h"

#include <sys/mman.h>
#include <unistd.h>

enum { FILES = 20, BYTES = 2000 };

/* All that an archive says lies in it, each name is there once and is found. */
static void check_archive(const struct moon_archive *archive)
{
    struct moon_str name, bytes, found;
    struct moon_buf text = {0};
    char hex[33];
    moon_archive_hash(archive, hex);
    FUZZ_CHECK(strlen(hex) == 32);
    for (size_t i = 0; i < moon_archive_count(archive); i++) {
        moon_archive_entry(archive, i, &name, &bytes);
        FUZZ_CHECK(name.len > 0);
        FUZZ_CHECK(name.ptr[name.len] == '\0' && bytes.ptr[bytes.len] == '\0');
        moon_buf_add_str(&text, name);
        moon_buf_add_str(&text, bytes);
        FUZZ_CHECK(moon_archive_find(archive, name, &found));
        FUZZ_CHECK(moon_str_eq(found, bytes));
    }
    FUZZ_CHECK(!moon_archive_find(archive, MOON_STR(""), &found));
    moon_buf_deinit(&text);
}

static void check_bytes(struct moon_str bytes)
{
    struct moon_archive *archive = NULL;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len);
    enum moon_err err = moon_archive_open(fd, &archive);
    FUZZ_CHECK((err == MOON_OK) == (archive != NULL));
    FUZZ_CHECK(err == MOON_OK || err == MOON_EPROTO);
    if (err == MOON_OK)
        check_archive(archive);
    moon_archive_unref(archive);
    (void)close(fd);
}

/* What was put in first under a name is what comes out. */
static void check_made(struct fuzz_bytes *input)
{
    struct moon_archive_writer *writer =
        moon_archive_writer_create(FILES, BYTES);
    struct moon_archive *archive = NULL;
    struct moon_str names[FILES], contents[FILES], found;
    size_t count = 0;
    int fd = -1;
    FUZZ_CHECK(writer != NULL);
    while (fuzz_left(input) > 0) {
        struct moon_str bytes,
            name = moon_str_cut(fuzz_until(input, '\n'), '=', &bytes);
        enum moon_err err = moon_archive_writer_add(writer, name, bytes);
        if (err != MOON_OK)
            continue;
        FUZZ_CHECK(count < FILES && name.len > 0);
        names[count] = name;
        contents[count++] = bytes;
    }
    FUZZ_CHECK(moon_archive_writer_finish(writer, &fd) == MOON_OK);
    FUZZ_CHECK(moon_archive_open(fd, &archive) == MOON_OK);
    FUZZ_CHECK(moon_archive_count(archive) == count);
    for (size_t i = 0; i < count; i++) {
        FUZZ_CHECK(moon_archive_find(archive, names[i], &found));
        FUZZ_CHECK(moon_str_eq(found, contents[i]));
    }
    check_archive(archive);
    moon_archive_unref(archive);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    if (size > 0)
        check_bytes(fuzz_str(data, size));
    check_made(&bytes);
    return 0;
}
