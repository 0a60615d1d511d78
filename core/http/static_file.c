#include "http/static_file.h"

#include "http/precondition.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK };

/* A path by way of /proc, as the kernel sees it; false if too long. */
static bool real_path(int fd, char out[PATH_MAX])
{
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, out, PATH_MAX - 1);
    if (len <= 0)
        return false;
    out[len] = '\0';
    return true;
}

static bool is_below(const char *rootz, const char *pathz)
{
    size_t len = strlen(rootz);
    if (len == 1)
        return true;
    return strncmp(rootz, pathz, len) == 0 &&
           (pathz[len] == '/' || pathz[len] == '\0');
}

/* For kernels before 5.6, sandboxes that refuse openat2, and absolute links
 * that lead below the root: opens, then looks where that led. Nothing has been
 * read from it yet. */
static int open_checked(int root_fd, const char *pathz)
{
    char root[PATH_MAX], path[PATH_MAX];
    int fd = openat(root_fd, pathz, OPEN_FLAGS);
    if (fd < 0)
        return -1;
    if (real_path(root_fd, root) && real_path(fd, path) && is_below(root, path))
        return fd;
    (void)close(fd);
    errno = EXDEV;
    return -1;
}

static int open_beneath(int root_fd, const char *pathz)
{
    const struct open_how how = {
        .flags = (uint64_t)OPEN_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    errno = EAGAIN; /* also given when a rename gets in the way */
    for (int i = 0; i < 8 && fd < 0 && (errno == EINTR || errno == EAGAIN); i++)
        fd = syscall(SYS_openat2, root_fd, pathz, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EXDEV))
        return open_checked(root_fd, pathz);
    return (int)fd;
}

/* No segment may be empty, start with a dot (hidden files, "." and ".."), or
 * hold a NUL. */
static bool is_servable(struct moon_str path)
{
    bool at_start = true;
    for (size_t i = 0; i < path.len; i++) {
        char ch = path.ptr[i];
        if (ch == '\0' || (at_start && (ch == '.' || ch == '/')))
            return false;
        at_start = ch == '/';
    }
    return true;
}

static bool is_directory(struct moon_str path)
{
    return path.len == 0 || path.ptr[path.len - 1] == '/';
}

/* `path`, then `index` if that is a directory, as text for the system. */
static enum moon_err make_path(struct moon_str path, struct moon_str index,
                               char out[PATH_MAX])
{
    bool directory = is_directory(path);
    if (!is_servable(path) || (directory && index.len == 0))
        return MOON_ENOT_FOUND;
    size_t index_len = directory ? index.len : 0;
    if (path.len + index_len >= PATH_MAX)
        return MOON_ENOT_FOUND;
    if (path.len > 0)
        memcpy(out, path.ptr, path.len);
    if (index_len > 0)
        memcpy(out + path.len, index.ptr, index_len);
    out[path.len + index_len] = '\0';
    return MOON_OK;
}

static char *put_hex(char *to, uint64_t value)
{
    char digits[16];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    memcpy(to, digits + at, sizeof(digits) - at);
    return to + sizeof(digits) - at;
}

/* "INODE-SIZE-MTIME", in hex. */
static void write_etag(const struct stat *st, struct moon_static_file *out)
{
    char *to = out->etag;
    *to++ = '"';
    to = put_hex(to, (uint64_t)st->st_ino);
    *to++ = '-';
    to = put_hex(to, (uint64_t)st->st_size);
    *to++ = '-';
    to = put_hex(to, (uint64_t)st->st_mtim.tv_sec * 1000000000u +
                         (uint64_t)st->st_mtim.tv_nsec);
    *to++ = '"';
    *to = '\0';
    out->etag_len = (uint8_t)(to - out->etag);
}

static enum moon_err describe(int fd, struct moon_static_file *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return MOON_ESYS;
    if (S_ISDIR(st.st_mode))
        return MOON_EAGAIN;
    if (!S_ISREG(st.st_mode))
        return MOON_ENOT_FOUND;
    out->fd = fd;
    out->size = (uint64_t)st.st_size;
    out->mtime = st.st_mtim.tv_sec;
    write_etag(&st, out);
    return MOON_OK;
}

static enum moon_err open_error(int sys)
{
    switch (sys) {
    case EMFILE:
    case ENFILE:
        return MOON_EFULL;
    case ENOMEM:
        return MOON_ENOMEM;
    case EIO:
        return MOON_ESYS;
    default:
        /* Absent, not permitted, a loop, outside the root: a client need not
         * know which. */
        return MOON_ENOT_FOUND;
    }
}

enum moon_err moon_static_open(int root_fd, struct moon_str path,
                               struct moon_str index,
                               struct moon_static_file *out)
{
    char pathz[PATH_MAX];
    out->fd = -1;
    enum moon_err err = make_path(path, index, pathz);
    if (err != MOON_OK)
        return err;
    int fd = open_beneath(root_fd, pathz);
    if (fd < 0)
        return open_error(errno);
    err = describe(fd, out);
    if (err != MOON_OK)
        (void)close(fd);
    /* With a slash it is the index that is a directory. */
    if (err == MOON_EAGAIN && (index.len == 0 || is_directory(path)))
        err = MOON_ENOT_FOUND;
    return err;
}

/* May Range count? With If-Range only if the client's part is of this very
 * file. A date must match exactly (RFC 9110 section 13.1.5). */
static bool range_counts(const struct moon_request *req,
                         const struct moon_validators *now)
{
    struct moon_str value;
    time_t when;
    if (req->method != MOON_METHOD_GET)
        return false;
    if (!moon_request_header(req, MOON_STR("If-Range"), 0, &value))
        return true;
    if (value.len > 0 && value.ptr[0] == '*')
        return false;
    if (moon_http_date_parse(value, &when))
        return when == now->mtime;
    return moon_etag_listed(value, now->etag, false);
}

static enum moon_err set_validators(const struct moon_validators *now,
                                    struct moon_response *res,
                                    struct moon_arena *arena)
{
    enum { DATE = 29 };
    char *text = moon_arena_alloc(arena, now->etag.len + DATE + 1);
    if (text == NULL)
        return MOON_ENOMEM;
    memcpy(text, now->etag.ptr, now->etag.len);
    moon_http_date_write(now->mtime, text + now->etag.len);
    enum moon_err err = moon_response_put_static(res, arena, MOON_STR("ETag"),
                                                 moon_str(text, now->etag.len));
    if (err == MOON_OK)
        err = moon_response_put_static(res, arena, MOON_STR("Last-Modified"),
                                       moon_str(text + now->etag.len, DATE));
    if (err == MOON_OK)
        err = moon_response_put_static(res, arena, MOON_STR("Accept-Ranges"),
                                       MOON_STR("bytes"));
    return err;
}

static enum moon_err set_content_range(const struct moon_static_plan *plan,
                                       uint64_t size, struct moon_response *res,
                                       struct moon_arena *arena)
{
    char text[80];
    int len;
    if (plan->status == 416)
        len = snprintf(text, sizeof(text), "bytes */%llu",
                       (unsigned long long)size);
    else
        len = snprintf(text, sizeof(text), "bytes %llu-%llu/%llu",
                       (unsigned long long)plan->from,
                       (unsigned long long)(plan->from + plan->length - 1),
                       (unsigned long long)size);
    return moon_response_set(res, arena, MOON_STR("Content-Range"),
                             moon_str(text, (size_t)len));
}

static void apply_range(const struct moon_request *req,
                        const struct moon_validators *now, uint64_t size,
                        struct moon_static_plan *out)
{
    struct moon_str value;
    struct moon_range range;
    if (!moon_request_header(req, MOON_STR("Range"), 0, &value) ||
        !range_counts(req, now))
        return;
    switch (moon_range_parse(value, size, &range)) {
    case MOON_RANGE_ONE:
        *out = (struct moon_static_plan){206, range.from, range.length};
        break;
    case MOON_RANGE_UNSATISFIABLE:
        *out = (struct moon_static_plan){416, 0, 0};
        break;
    case MOON_RANGE_NONE:
        break;
    }
}

enum moon_err moon_static_plan(const struct moon_static_file *file,
                               const struct moon_request *req,
                               struct moon_response *res,
                               struct moon_arena *arena,
                               struct moon_static_plan *out)
{
    const struct moon_validators now = {moon_str(file->etag, file->etag_len),
                                        file->mtime, true};
    *out = (struct moon_static_plan){200, 0, file->size};
    enum moon_err err = set_validators(&now, res, arena);
    if (err != MOON_OK)
        return err;
    if (moon_precondition_fails(req, &now))
        *out = (struct moon_static_plan){412, 0, 0};
    else if (moon_is_unchanged(req, &now))
        *out = (struct moon_static_plan){304, 0, 0};
    else
        apply_range(req, &now, file->size, out);
    if (out->status == 206 || out->status == 416)
        err = set_content_range(out, file->size, res, arena);
    return err;
}
