#include "node/release.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum moon_err parse_config(int fd, struct moon_config **out,
                                  struct moon_buf *error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return moon_err_from_errno(errno);
    if (st.st_size == 0)
        return MOON_EPROTO;
    size_t size = (size_t)st.st_size;
    void *at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return moon_err_from_errno(errno);
    char text[512] = "";
    enum moon_err err =
        moon_config_parse(moon_str(at, size), out, text, sizeof(text));
    moon_buf_addz(error, text);
    (void)munmap(at, size);
    return err;
}

enum moon_err moon_release_create(uint64_t generation, int archive_fd,
                                  int config_fd, struct moon_str dir,
                                  struct moon_release **out,
                                  struct moon_buf *error)
{
    struct moon_release *release = calloc(1, sizeof(*release));
    if (release == NULL) {
        (void)close(archive_fd);
        (void)close(config_fd);
        return MOON_ENOMEM;
    }
    atomic_init(&release->refs, 1);
    release->generation = generation;
    release->archive_fd = archive_fd;
    release->config_fd = config_fd;
    release->dirz = strndup(dir.ptr, dir.len);
    enum moon_err err = release->dirz == NULL ? MOON_ENOMEM : MOON_OK;
    if (err == MOON_OK)
        err = moon_archive_open(archive_fd, &release->archive);
    if (err == MOON_OK)
        err = parse_config(config_fd, &release->config, error);
    if (err != MOON_OK) {
        if (error->len == 0)
            moon_buf_printf(error, "snapshot: %s", moon_err_text(err));
        moon_release_unref(release);
        return err;
    }
    *out = release;
    return MOON_OK;
}

struct moon_release *moon_release_ref(struct moon_release *release)
{
    (void)atomic_fetch_add(&release->refs, 1);
    return release;
}

void moon_release_unref(struct moon_release *release)
{
    if (release == NULL || atomic_fetch_sub(&release->refs, 1) != 1)
        return;
    if (release->archive != NULL)
        moon_archive_unref(release->archive);
    moon_config_destroy(release->config);
    if (release->archive_fd >= 0)
        (void)close(release->archive_fd);
    if (release->config_fd >= 0)
        (void)close(release->config_fd);
    free(release->dirz);
    free(release);
}
