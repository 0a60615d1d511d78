#include "node/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TRIES = 10, DEPTH_MAX = 32, PATH_BYTES_MAX = 4096 };

struct walk {
    struct moon_archive_writer *writer; /* NULL: only look */
    struct moon_buf *error;
    uint64_t fingerprint; /* of names, sizes and times */
    size_t files;
    char path[PATH_BYTES_MAX]; /* relative, of what is looked at */
    size_t path_len;
};

static void mix(struct walk *w, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < len; i++)
        w->fingerprint = (w->fingerprint ^ at[i]) * 0x100000001b3ull;
}

/* Order of entries differs between walks of one directory on some file
 * systems, so what each file adds is summed, not chained. */
static void note(struct walk *w, const struct stat *st)
{
    uint64_t sum = w->fingerprint;
    w->fingerprint = 0xcbf29ce484222325ull;
    mix(w, w->path, w->path_len);
    mix(w, &st->st_dev, sizeof(st->st_dev));
    mix(w, &st->st_ino, sizeof(st->st_ino));
    mix(w, &st->st_size, sizeof(st->st_size));
    mix(w, &st->st_mtim, sizeof(st->st_mtim));
    mix(w, &st->st_ctim, sizeof(st->st_ctim));
    w->fingerprint += sum;
    w->files++;
}

static enum moon_err fail_errno(struct moon_buf *error, const char *namez)
{
    int sys = errno;
    moon_buf_printf(error, "cannot read %s: %s", namez, strerror(sys));
    return moon_err_from_errno(sys);
}

static enum moon_err read_all(int fd, struct moon_buf *out, const char *namez,
                              struct moon_buf *error)
{
    for (;;) {
        char *to = moon_buf_reserve(out, 65536);
        if (to == NULL)
            return MOON_ENOMEM;
        ssize_t n = read(fd, to, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(error, namez);
        if (n == 0)
            return MOON_OK;
        out->len += (size_t)n;
        if (out->len > MOON_SNAPSHOT_BYTES) {
            moon_buf_printf(error, "%s is larger than %d MiB", namez,
                            MOON_SNAPSHOT_BYTES >> 20);
            return MOON_ETOO_BIG;
        }
    }
}

static enum moon_err add_bytes(struct moon_archive_writer *writer,
                               struct moon_str name, struct moon_str bytes,
                               struct moon_buf *error)
{
    enum moon_err err = moon_archive_writer_add(writer, name, bytes);
    if (err == MOON_EEXISTS)
        return MOON_OK;
    if (err == MOON_ETOO_BIG)
        moon_buf_printf(error,
                        "the application is too large for a reload: at most "
                        "%d files and %d MiB of .lua files and views "
                        "(at %.*s)",
                        MOON_SNAPSHOT_FILES, MOON_SNAPSHOT_BYTES >> 20,
                        MOON_STR_ARG(name));
    else if (err != MOON_OK)
        moon_buf_printf(error, "%.*s: %s", MOON_STR_ARG(name),
                        moon_err_text(err));
    return err;
}

/* `fd` is at the file; it is not closed here. */
static enum moon_err take_file(struct walk *w, int fd, const struct stat *st)
{
    note(w, st);
    if (w->writer == NULL)
        return MOON_OK;
    struct moon_buf bytes = {0};
    enum moon_err err = read_all(fd, &bytes, w->path, w->error);
    if (err == MOON_OK)
        err = add_bytes(w->writer, moon_str(w->path, w->path_len),
                        moon_buf_str(&bytes), w->error);
    moon_buf_deinit(&bytes);
    return err;
}

static bool ends_in_lua(const char *namez)
{
    size_t len = strlen(namez);
    return len > 4 && memcmp(namez + len - 4, ".lua", 4) == 0;
}

static enum moon_err walk_dir(struct walk *w, int dir_fd, int depth,
                              bool in_views);

static enum moon_err walk_entry(struct walk *w, int dir_fd,
                                const struct dirent *entry, int depth,
                                bool in_views)
{
    const char *namez = entry->d_name;
    if (namez[0] == '.' || strcmp(namez, "node_modules") == 0)
        return MOON_OK;
    /* What the directory says saves opening the static files. */
    bool wanted = in_views || ends_in_lua(namez);
    if (entry->d_type == DT_REG && !wanted)
        return MOON_OK;
    size_t len = strlen(namez), before = w->path_len;
    if (before + len + 2 > sizeof(w->path)) {
        moon_buf_printf(w->error, "path too long: %s/%s", w->path, namez);
        return MOON_ETOO_BIG;
    }
    if (before > 0)
        w->path[w->path_len++] = '/';
    memcpy(w->path + w->path_len, namez, len + 1);
    w->path_len += len;

    enum moon_err err = MOON_OK;
    struct stat st;
    /* Non-blocking, because a FIFO may be called x.lua. */
    int fd = openat(dir_fd, namez, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        /* A dangling link or a file that just went is no part of the app;
         * what the app needs it will miss by name. */
        if (errno != ENOENT && errno != ELOOP && errno != ENXIO && wanted)
            err = fail_errno(w->error, w->path);
    } else if (fstat(fd, &st) < 0) {
        err = fail_errno(w->error, w->path);
    } else if (S_ISDIR(st.st_mode)) {
        bool views = in_views || strcmp(w->path, "views") == 0;
        err = walk_dir(w, fd, depth + 1, views);
        fd = -1;
    } else if (S_ISREG(st.st_mode) && wanted) {
        err = take_file(w, fd, &st);
    }
    if (fd >= 0)
        (void)close(fd);
    w->path_len = before;
    w->path[before] = '\0';
    return err;
}

/* Takes `dir_fd`. */
static enum moon_err walk_dir(struct walk *w, int dir_fd, int depth,
                              bool in_views)
{
    if (depth > DEPTH_MAX) {
        (void)close(dir_fd);
        moon_buf_printf(w->error,
                        "directories nested too deep at %s "
                        "(a link that leads back?)",
                        w->path);
        return MOON_ETOO_BIG;
    }
    DIR *dir = fdopendir(dir_fd);
    if (dir == NULL) {
        (void)close(dir_fd);
        return fail_errno(w->error, w->path);
    }
    enum moon_err err = MOON_OK;
    const struct dirent *entry;
    while (err == MOON_OK && (entry = readdir(dir)) != NULL)
        err = walk_entry(w, dirfd(dir), entry, depth, in_views);
    (void)closedir(dir);
    return err;
}

static enum moon_err walk_app(struct walk *w, int app_fd)
{
    w->fingerprint = 0;
    w->files = 0;
    w->path_len = 0;
    w->path[0] = '\0';
    int fd = openat(app_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(w->error, "the application's directory");
    return walk_dir(w, fd, 0, false);
}

/* First of all, so that it wins over APP/config.lua, which the walk meets. */
static enum moon_err take_config(struct moon_archive_writer *writer,
                                 const char *configz, struct moon_buf *error)
{
    int fd = open(configz, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(error, configz);
    struct moon_buf bytes = {0};
    enum moon_err err = read_all(fd, &bytes, configz, error);
    (void)close(fd);
    if (err == MOON_OK)
        err = add_bytes(writer, MOON_STR("config.lua"), moon_buf_str(&bytes),
                        error);
    moon_buf_deinit(&bytes);
    return err;
}

/* One try. MOON_EAGAIN: something changed meanwhile. */
static enum moon_err take_once(const struct moon_snapshot_source *source,
                               int app_fd, int *fd, struct moon_buf *error)
{
    struct moon_archive_writer *writer =
        moon_archive_writer_create(MOON_SNAPSHOT_FILES, MOON_SNAPSHOT_BYTES);
    if (writer == NULL)
        return MOON_ENOMEM;
    struct walk w = {.writer = writer, .error = error};
    enum moon_err err = MOON_OK;
    if (source->configz != NULL)
        err = take_config(writer, source->configz, error);
    if (err == MOON_OK)
        err = walk_app(&w, app_fd);
    int got = -1;
    enum moon_err end = moon_archive_writer_finish(writer, &got);
    if (err == MOON_OK && end != MOON_OK) {
        moon_buf_printf(error, "cannot keep the snapshot: %s",
                        moon_err_text(end));
        err = end;
    }
    if (err == MOON_OK) {
        uint64_t read_print = w.fingerprint;
        w.writer = NULL;
        err = walk_app(&w, app_fd);
        if (err == MOON_OK && w.fingerprint != read_print)
            err = MOON_EAGAIN;
    }
    if (err != MOON_OK && got >= 0) {
        (void)close(got);
        got = -1;
    }
    *fd = got;
    return err;
}

static enum moon_err real_path(int dir_fd, struct moon_buf *out)
{
    char link[64], target[PATH_BYTES_MAX];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    if (n < 0)
        return moon_err_from_errno(errno);
    moon_buf_add(out, target, (size_t)n);
    return MOON_OK;
}

/* The first file that might have been meant as the application. */
static void suggest_file(const char *dirz, struct moon_buf *error)
{
    DIR *dir = opendir(dirz);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || !ends_in_lua(entry->d_name) ||
            strcmp(entry->d_name, "config.lua") == 0)
            continue;
        moon_buf_printf(error,
                        "\nThere is %s; to serve that: moonshine run %s/%s",
                        entry->d_name, dirz, entry->d_name);
        break;
    }
    if (dir != NULL)
        (void)closedir(dir);
}

/* Somebody's first minute. */
static void explain_missing(const struct moon_snapshot_source *source,
                            struct moon_buf *error)
{
    moon_buf_printf(error,
                    "there is no %s in %s\nAn application is a directory "
                    "with an app.lua. The smallest one:\n\n"
                    "    local moonshine = require \"moonshine\"\n"
                    "    local app = moonshine.app()\n"
                    "    app:get(\"/\", function() return \"Hello, "
                    "World!\\n\" end)\n"
                    "    return app\n",
                    source->app_filez, source->app_dirz);
    suggest_file(source->app_dirz, error);
}

enum moon_err moon_snapshot_take(const struct moon_snapshot_source *source,
                                 int *fd, struct moon_buf *real_dir,
                                 struct moon_buf *error)
{
    enum moon_err err = MOON_EAGAIN;
    for (int i = 0; i < TRIES && err == MOON_EAGAIN; i++) {
        if (i > 0) {
            struct timespec pause = {.tv_nsec = 20000000};
            (void)nanosleep(&pause, NULL);
        }
        /* Resolved anew each time: a release may have been switched. */
        int app_fd = open(source->app_dirz, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (app_fd < 0)
            return fail_errno(error, source->app_dirz);
        if (faccessat(app_fd, source->app_filez, R_OK, AT_EACCESS) < 0) {
            int sys = errno;
            (void)close(app_fd);
            if (sys == ENOENT)
                explain_missing(source, error);
            else
                moon_buf_printf(error, "no application there: %s/%s: %s",
                                source->app_dirz, source->app_filez,
                                strerror(sys));
            return moon_err_from_errno(sys);
        }
        real_dir->len = 0;
        err = real_path(app_fd, real_dir);
        if (err == MOON_OK)
            err = take_once(source, app_fd, fd, error);
        (void)close(app_fd);
    }
    if (err == MOON_EAGAIN)
        moon_buf_addz(error, "files of the application keep changing while "
                             "they are read");
    else if (err != MOON_OK && error->len == 0)
        moon_buf_addz(error, moon_err_text(err));
    return err;
}

static enum moon_err read_outside(const char *dirz, const char *namez,
                                  struct moon_buf *bytes,
                                  struct moon_buf *error)
{
    char path[PATH_BYTES_MAX];
    const char *slash = namez[0] == '/' ? "" : "/";
    (void)snprintf(path, sizeof(path), "%s%s%s", *slash ? dirz : "", slash,
                   namez);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(error, path);
    enum moon_err err = read_all(fd, bytes, path, error);
    (void)close(fd);
    return err;
}

static enum moon_err add_outside(struct moon_archive_writer *writer,
                                 const char *dirz, const char *namez,
                                 struct moon_buf *error)
{
    struct moon_buf bytes = {0};
    enum moon_err err = read_outside(dirz, namez, &bytes, error);
    if (err == MOON_OK)
        err = add_bytes(writer, moon_strz(namez), moon_buf_str(&bytes), error);
    moon_buf_deinit(&bytes);
    return err;
}

enum moon_err moon_snapshot_extend(const struct moon_archive *base,
                                   const char *dirz, struct moon_str names,
                                   int *fd, struct moon_buf *error)
{
    struct moon_archive_writer *writer =
        moon_archive_writer_create(MOON_SNAPSHOT_FILES, MOON_SNAPSHOT_BYTES);
    if (writer == NULL)
        return MOON_ENOMEM;
    enum moon_err err = MOON_OK;
    for (size_t i = 0; err == MOON_OK && i < moon_archive_count(base); i++) {
        struct moon_str name, bytes;
        moon_archive_entry(base, i, &name, &bytes);
        err = add_bytes(writer, name, bytes, error);
    }
    for (size_t at = 0; err == MOON_OK && at < names.len;
         at += strlen(names.ptr + at) + 1)
        err = add_outside(writer, dirz, names.ptr + at, error);
    enum moon_err end = moon_archive_writer_finish(writer, fd);
    if (err != MOON_OK) {
        if (end == MOON_OK)
            (void)close(*fd);
        *fd = -1;
        return err;
    }
    return end;
}

/* What serves but is not in the new snapshot: an outside file, or gone. */
static bool outside_differs(const char *dirz, struct moon_str name,
                            struct moon_str bytes, struct moon_buf *what)
{
    struct moon_buf now = {0}, ignored = {0}, namez = {0};
    moon_buf_add_str(&namez, name);
    moon_buf_add_char(&namez, '\0');
    bool differs = namez.failed ||
                   read_outside(dirz, namez.ptr, &now, &ignored) != MOON_OK;
    if (differs)
        moon_buf_printf(what, "%.*s is gone", MOON_STR_ARG(name));
    else if ((differs = !moon_str_eq(moon_buf_str(&now), bytes)))
        moon_buf_printf(what, "%.*s changed", MOON_STR_ARG(name));
    moon_buf_deinit(&now);
    moon_buf_deinit(&ignored);
    moon_buf_deinit(&namez);
    return differs;
}

static bool archives_differ(const char *dirz, const struct moon_archive *old,
                            const struct moon_archive *now,
                            struct moon_buf *what)
{
    struct moon_str name, bytes, other;
    for (size_t i = 0; i < moon_archive_count(now); i++) {
        moon_archive_entry(now, i, &name, &bytes);
        bool known = moon_archive_find(old, name, &other);
        if (known && moon_str_eq(bytes, other))
            continue;
        moon_buf_printf(what, "%.*s %s", MOON_STR_ARG(name),
                        known ? "changed" : "is new");
        return true;
    }
    for (size_t i = 0; i < moon_archive_count(old); i++) {
        moon_archive_entry(old, i, &name, &bytes);
        if (!moon_archive_find(now, name, &other) &&
            outside_differs(dirz, name, bytes, what))
            return true;
    }
    return false;
}

bool moon_snapshot_differs(const struct moon_snapshot_source *source,
                           const struct moon_archive *archive,
                           struct moon_buf *what)
{
    int fd = -1;
    struct moon_buf dir = {0};
    struct moon_archive *now = NULL;
    enum moon_err err = moon_snapshot_take(source, &fd, &dir, what);
    bool differs = err != MOON_OK;
    if (err == MOON_OK) {
        err = moon_archive_open(fd, &now);
        (void)close(fd);
    }
    moon_buf_add_char(&dir, '\0');
    if (err == MOON_OK && !dir.failed)
        differs = archives_differ(dir.ptr, archive, now, what);
    if (now != NULL)
        moon_archive_unref(now);
    moon_buf_deinit(&dir);
    return differs;
}
