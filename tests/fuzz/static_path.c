/* Paths of requests to files below a root: whatever is asked for, what is
 * opened is one of the files that may be served. */
#include "fuzz.h"

#include "http/path.h"
#include "http/static_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SERVED = 4 };

static int root_fd = -1;
static char dirz[] = "/tmp/moonshine-fuzz-XXXXXX";
static ino_t served[SERVED];

static ino_t make_file(int dir_fd, const char *namez)
{
    struct stat st;
    int fd = openat(dir_fd, namez, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, "x", 1) == 1 && fstat(fd, &st) == 0);
    (void)close(fd);
    return st.st_ino;
}

static void remove_all(void)
{
    static const char *const files[] = {
        "root/index.html", "root/a b",     "root/sub/index.html",
        "root/sub/x%2Fy",  "root/.hidden", "root/out",
        "root/up",         "root/in",      "root/sub/.git/x",
        "secret"};
    static const char *const dirs[] = {"root/sub/.git", "root/sub", "root", ""};
    char pathz[200];
    for (size_t i = 0; i < MOON_COUNT(files); i++) {
        (void)snprintf(pathz, sizeof(pathz), "%s/%s", dirz, files[i]);
        (void)unlink(pathz);
    }
    for (size_t i = 0; i < MOON_COUNT(dirs); i++) {
        (void)snprintf(pathz, sizeof(pathz), "%s/%s", dirz, dirs[i]);
        (void)rmdir(pathz);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    FUZZ_CHECK(mkdtemp(dirz) != NULL);
    (void)atexit(remove_all);
    int dir_fd = open(dirz, O_DIRECTORY | O_CLOEXEC);
    FUZZ_CHECK(dir_fd >= 0 && mkdirat(dir_fd, "root", 0700) == 0);
    root_fd = openat(dir_fd, "root", O_DIRECTORY | O_CLOEXEC);
    FUZZ_CHECK(root_fd >= 0 && mkdirat(root_fd, "sub", 0700) == 0);
    FUZZ_CHECK(mkdirat(root_fd, "sub/.git", 0700) == 0);
    (void)make_file(dir_fd, "secret");
    (void)make_file(root_fd, ".hidden");
    (void)make_file(root_fd, "sub/.git/x");
    served[0] = make_file(root_fd, "index.html");
    served[1] = make_file(root_fd, "a b");
    served[2] = make_file(root_fd, "sub/index.html");
    served[3] = make_file(root_fd, "sub/x%2Fy");
    FUZZ_CHECK(symlinkat("../secret", root_fd, "out") == 0);
    FUZZ_CHECK(symlinkat("..", root_fd, "up") == 0);
    FUZZ_CHECK(symlinkat("sub", root_fd, "in") == 0);
    (void)close(dir_fd);
    return 0;
}

static void check_file(const struct moon_static_file *file)
{
    struct stat st;
    bool found = false;
    FUZZ_CHECK(fstat(file->fd, &st) == 0);
    for (int i = 0; i < SERVED; i++)
        found |= st.st_ino == served[i];
    FUZZ_CHECK(found);
    FUZZ_CHECK(file->size == 1 && file->etag[0] == '"');
    (void)close(file->fd);
}

static void check_open(struct moon_str path, struct moon_str index)
{
    struct moon_static_file file = {.fd = -1};
    enum moon_err err = moon_static_open(root_fd, path, index, &file);
    if (err == MOON_OK)
        check_file(&file);
    else
        FUZZ_CHECK(file.fd == -1);
}

/* As app:static does it: the rest of a route, or the normalised path. And as
 * they come, since an application may pass on anything. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_arena arena;
    struct moon_str normal, path = fuzz_copy(fuzz_str(data, size));
    moon_arena_init(&arena, NULL, 0);
    check_open(path, MOON_STR("index.html"));
    check_open(path, MOON_STR(""));
    if (size > 0 && data[0] == '/' &&
        moon_path_normalise(path, &arena, &normal) == MOON_OK)
        check_open(moon_str(normal.ptr + 1, normal.len - 1),
                   MOON_STR("index.html"));
    moon_arena_reset(&arena);
    fuzz_free(path);
    return 0;
}
