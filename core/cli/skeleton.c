#include "cli/skeleton.h"

#include "base/compiler.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 64, FOLDER_MAX = 64, ANCESTORS = 5 };

/* ---- text ---- */

void moon_skeleton_fill(struct moon_buf *out, struct moon_str text,
                        struct moon_str name, struct moon_str library)
{
    const struct moon_str name_mark = MOON_STR("@NAME@");
    const struct moon_str library_mark = MOON_STR("@LIBRARY@");
    while (text.len > 0) {
        size_t taken = 1;
        if (moon_str_starts(text, name_mark)) {
            moon_buf_add_str(out, name);
            taken = name_mark.len;
        } else if (moon_str_starts(text, library_mark)) {
            if (library.len > 0)
                moon_buf_add_json(out, library);
            taken = library_mark.len;
        } else {
            moon_buf_add_char(out, text.ptr[0]);
        }
        text = moon_str(text.ptr + taken, text.len - taken);
    }
}

bool moon_skeleton_name_ok(struct moon_str name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || name.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
              (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'))
            return false;
    }
    return true;
}

/* ---- the annotated Lua files ---- */

bool moon_skeleton_library(struct moon_str exe, struct moon_buf *out)
{
    static const char *const places[] = {"share/moonshine/lua", "lua"};
    char pathz[PATH_MAX], realz[PATH_MAX];
    /* PREFIX/bin/moonshine, or TREE/build/release/core/moonshine. */
    for (int up = 0; up < ANCESTORS; up++) {
        while (exe.len > 0 && exe.ptr[exe.len - 1] != '/')
            exe.len--;
        if (exe.len == 0)
            break;
        exe.len--; /* the slash */
        for (size_t i = 0; i < MOON_COUNT(places); i++) {
            int len = snprintf(pathz, sizeof(pathz), "%.*s/%s/moonshine",
                               MOON_STR_ARG(exe), places[i]);
            size_t dir_len = (size_t)len - strlen("/moonshine");
            if (len < 0 || (size_t)len + sizeof("/init.lua") > sizeof(pathz))
                continue;
            memcpy(pathz + len, "/init.lua", sizeof("/init.lua"));
            if (access(pathz, R_OK) != 0)
                continue;
            pathz[dir_len] = '\0';
            if (realpath(pathz, realz) != NULL) {
                moon_buf_addz(out, realz);
                return true;
            }
        }
    }
    return false;
}

/* ---- the directory ---- */

static bool counts(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 &&
           strcmp(entry->d_name, "..") != 0 &&
           strcmp(entry->d_name, ".git") != 0;
}

bool moon_skeleton_obstacle(int dir_fd, struct moon_buf *name)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return false; /* whatever is wrong shows when files are made */
    }
    char firstz[NAME_MAX + 1] = "";
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (counts(entry) &&
            (firstz[0] == '\0' || strcmp(entry->d_name, firstz) < 0))
            (void)snprintf(firstz, sizeof(firstz), "%s", entry->d_name);
    }
    (void)closedir(dir);
    moon_buf_addz(name, firstz);
    return firstz[0] != '\0';
}

/* What was made so far, for undoing it. */
struct made {
    int dir_fd;
    size_t files;
    size_t folders; /* of the first so many files, the folder was made */
    struct moon_buf *why;
};

/* The folder of a file, or "". */
static void folder_of(const struct moon_skeleton_file *file,
                      char folderz[FOLDER_MAX])
{
    const char *slashz = strchr(file->pathz, '/');
    size_t len = slashz == NULL ? 0 : (size_t)(slashz - file->pathz);
    memcpy(folderz, file->pathz, len);
    folderz[len] = '\0';
}

/* True if this file is the first of a folder: theirs stand together. */
static bool opens_folder(size_t index, char folderz[FOLDER_MAX])
{
    char beforez[FOLDER_MAX] = "";
    folder_of(&moon_skeleton[index], folderz);
    if (index > 0)
        folder_of(&moon_skeleton[index - 1], beforez);
    return folderz[0] != '\0' && strcmp(folderz, beforez) != 0;
}

static void remove_one(struct made *made, const char *pathz, int flags)
{
    if (unlinkat(made->dir_fd, pathz, flags) != 0)
        moon_buf_printf(made->why, "\nleft behind: %s (%s)", pathz,
                        strerror(errno));
}

static void undo(struct made *made)
{
    char folderz[FOLDER_MAX];
    for (size_t i = made->folders; i-- > 0;) {
        if (i < made->files)
            remove_one(made, moon_skeleton[i].pathz, 0);
        if (opens_folder(i, folderz))
            remove_one(made, folderz, AT_REMOVEDIR);
    }
}

static bool write_all(int fd, struct moon_str bytes)
{
    while (bytes.len > 0) {
        ssize_t done = write(fd, bytes.ptr, bytes.len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        bytes = moon_str(bytes.ptr + done, bytes.len - (size_t)done);
    }
    return true;
}

static bool write_one(struct made *made, size_t index, struct moon_str bytes)
{
    const char *pathz = moon_skeleton[index].pathz;
    char folderz[FOLDER_MAX];
    if (opens_folder(index, folderz) &&
        mkdirat(made->dir_fd, folderz, 0777) != 0) {
        moon_buf_printf(made->why, "%s: %s", folderz, strerror(errno));
        return false;
    }
    made->folders = index + 1;
    int fd = openat(made->dir_fd, pathz,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        moon_buf_printf(made->why, "%s: %s", pathz, strerror(errno));
        return false;
    }
    made->files = index + 1;
    bool ok = write_all(fd, bytes);
    int error = errno;
    /* A full disk or quota may show here only. */
    if (close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (!ok)
        moon_buf_printf(made->why, "%s: %s", pathz, strerror(error));
    return ok;
}

bool moon_skeleton_write(int dir_fd, struct moon_str name,
                         struct moon_str library, struct moon_buf *why)
{
    struct made made = {.dir_fd = dir_fd, .why = why};
    struct moon_buf text = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < moon_skeleton_count; i++) {
        text.len = 0;
        moon_skeleton_fill(&text, moon_skeleton[i].bytes, name, library);
        if (text.failed) {
            moon_buf_addz(why, "out of memory");
            ok = false;
        } else {
            ok = write_one(&made, i, moon_buf_str(&text));
        }
    }
    if (!ok)
        undo(&made);
    moon_buf_deinit(&text);
    return ok;
}
