#include "node/secret.h"

#include "base/config.h"
#include "base/private_dir.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANDOM_BYTES = 32 };

void moon_secret_make(char out[MOON_SECRET_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[RANDOM_BYTES];
    moon_random_bytes(bytes, sizeof(bytes));
    for (int i = 0; i < RANDOM_BYTES; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
    explicit_bzero(bytes, sizeof(bytes));
}

static bool write_line(int fd, const char *textz)
{
    char line[MOON_SECRET_SIZE + 1];
    int len = snprintf(line, sizeof(line), "%s\n", textz);
    bool done = write(fd, line, (size_t)len) == len && fsync(fd) == 0;
    explicit_bzero(line, sizeof(line));
    return done;
}

/* Written aside, then linked to its name: that fails if there is one by now,
 * which is as good. 0, or an errno. */
static int add_file(int dir_fd)
{
    char aside[40], secretz[MOON_SECRET_SIZE];
    uint64_t number;
    moon_random_bytes(&number, sizeof(number));
    (void)snprintf(aside, sizeof(aside), "secret.%016llx.tmp",
                   (unsigned long long)number);
    int fd = openat(dir_fd, aside,
                    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    moon_secret_make(secretz);
    errno = EIO; /* a short write sets none */
    int sys = write_line(fd, secretz) ? 0 : errno;
    explicit_bzero(secretz, sizeof(secretz));
    (void)close(fd);
    if (sys == 0 && linkat(dir_fd, aside, dir_fd, "secret", 0) < 0 &&
        errno != EEXIST)
        sys = errno;
    (void)unlinkat(dir_fd, aside, 0);
    if (sys == 0)
        (void)fsync(dir_fd);
    return sys;
}

static enum moon_err read_file(int fd, char out[MOON_SECRET_SIZE])
{
    ssize_t n = read(fd, out, MOON_SECRET_SIZE);
    if (n < 0)
        return moon_err_from_errno(errno);
    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    if (n < MOON_SECRET_MIN || n == MOON_SECRET_SIZE ||
        memchr(out, '\0', (size_t)n) != NULL)
        return MOON_EPROTO;
    out[n] = '\0';
    return MOON_OK;
}

static enum moon_err open_file(int dir_fd, int *fd)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
    *fd = openat(dir_fd, "secret", flags);
    if (*fd < 0 && errno == ENOENT) {
        errno = add_file(dir_fd);
        if (errno == 0)
            *fd = openat(dir_fd, "secret", flags);
    }
    return *fd < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

static enum moon_err open_dir(const char *pathz, int *fd, struct moon_buf *why)
{
    size_t before = why->len;
    moon_buf_printf(why, "cannot keep a secret in %s: ", pathz);
    if (!moon_private_dir_make(pathz, why))
        return MOON_EDENIED;
    why->len = before;
    *fd = open(pathz, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? moon_err_from_errno(errno) : MOON_OK;
}

enum moon_err moon_secret_get(const char *state_dirz,
                              char out[MOON_SECRET_SIZE], struct moon_buf *why)
{
    int dir_fd, fd;
    struct stat st;
    errno = 0;
    size_t before = why->len;
    enum moon_err err = open_dir(state_dirz, &dir_fd, why);
    if (err != MOON_OK && why->len > before)
        return err;
    if (err == MOON_OK) {
        err = open_file(dir_fd, &fd);
        int sys = errno;
        (void)close(dir_fd);
        errno = sys;
    }
    if (err != MOON_OK) {
        moon_buf_printf(why, "cannot keep a secret in %s: %s", state_dirz,
                        errno != 0 ? strerror(errno) : moon_err_text(err));
        return err;
    }
    err = read_file(fd, out);
    if (err != MOON_OK)
        moon_buf_printf(why, "%s/secret: no line of %d to %d characters",
                        state_dirz, MOON_SECRET_MIN, MOON_SECRET_SIZE - 1);
    else if (fstat(fd, &st) == 0 && (st.st_mode & 077) != 0)
        moon_buf_printf(why,
                        "%s/secret is open to other users; chmod 600 it, or "
                        "remove it for a new one\n",
                        state_dirz);
    (void)close(fd);
    return err;
}
