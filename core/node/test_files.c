#include "node/test_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 32 };

static const char spec_endz[] = "_spec.lua";

static bool is_spec(const char *namez)
{
    size_t len = strlen(namez), end = sizeof(spec_endz) - 1;
    return len > end && strcmp(namez + len - end, spec_endz) == 0;
}

static enum moon_err fail(struct moon_buf *error, const char *pathz, int sys)
{
    moon_buf_printf(error, "%s: %s", pathz, strerror(sys));
    return moon_err_from_errno(sys);
}

/* Takes `namez`. One that is there already is not added again. */
static enum moon_err insert(struct moon_test_paths *paths, char *namez)
{
    if (namez == NULL)
        return MOON_ENOMEM;
    size_t at = 0;
    while (at < paths->count && strcmp(paths->namez[at], namez) < 0)
        at++;
    if (at < paths->count && strcmp(paths->namez[at], namez) == 0) {
        free(namez);
        return MOON_OK;
    }
    if (paths->count == paths->cap) {
        size_t cap = paths->cap == 0 ? 16 : paths->cap * 2;
        char **grown = realloc(paths->namez, cap * sizeof(*grown));
        if (grown == NULL) {
            free(namez);
            return MOON_ENOMEM;
        }
        paths->namez = grown;
        paths->cap = cap;
    }
    memmove(paths->namez + at + 1, paths->namez + at,
            (paths->count - at) * sizeof(*paths->namez));
    paths->namez[at] = namez;
    paths->count++;
    return MOON_OK;
}

/* Both paths are real: without links. */
static enum moon_err add_file(struct moon_test_paths *paths, const char *dirz,
                              const char *pathz)
{
    size_t len = strlen(dirz);
    bool inside = strncmp(pathz, dirz, len) == 0 && pathz[len] == '/';
    return insert(paths, strdup(inside ? pathz + len + 1 : pathz));
}

static enum moon_err add_dir(struct moon_test_paths *paths, const char *dirz,
                             const char *pathz, int depth,
                             struct moon_buf *error)
{
    DIR *dir = opendir(pathz);
    if (dir == NULL)
        return fail(error, pathz, errno);
    enum moon_err err = depth > DEPTH_MAX ? MOON_ETOO_BIG : MOON_OK;
    const struct dirent *entry;
    while (err == MOON_OK && (entry = readdir(dir)) != NULL) {
        char *innerz;
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        if (asprintf(&innerz, "%s/%s", pathz, entry->d_name) < 0) {
            err = MOON_ENOMEM;
            break;
        }
        if (stat(innerz, &st) == 0 && S_ISDIR(st.st_mode))
            err = add_dir(paths, dirz, innerz, depth + 1, error);
        else if (is_spec(entry->d_name))
            err = add_file(paths, dirz, innerz);
        free(innerz);
    }
    (void)closedir(dir);
    if (err != MOON_OK && error->len == 0)
        moon_buf_printf(error, "%s: %s", pathz, moon_err_text(err));
    return err;
}

/* The real path of a word, to be freed; NULL and errno. */
static char *find(const char *app_dirz, const char *wordz)
{
    char *pathz = realpath(wordz, NULL);
    if (pathz != NULL || wordz[0] == '/')
        return pathz;
    int sys = errno;
    char *in_appz;
    if (asprintf(&in_appz, "%s/%s", app_dirz, wordz) < 0)
        return NULL;
    pathz = realpath(in_appz, NULL);
    free(in_appz);
    errno = sys;
    return pathz;
}

enum moon_err moon_test_paths_add(struct moon_test_paths *paths,
                                  const char *app_dirz, const char *wordz,
                                  struct moon_buf *error)
{
    struct stat st;
    char *dirz = realpath(app_dirz, NULL);
    if (dirz == NULL)
        return fail(error, app_dirz, errno);
    char *pathz = find(dirz, wordz);
    enum moon_err err;
    if (pathz == NULL || stat(pathz, &st) < 0)
        err = fail(error, wordz, errno);
    else if (S_ISDIR(st.st_mode))
        err = add_dir(paths, dirz, pathz, 0, error);
    else
        err = add_file(paths, dirz, pathz);
    free(pathz);
    free(dirz);
    return err;
}

void moon_test_paths_deinit(struct moon_test_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->namez[i]);
    free(paths->namez);
    *paths = (struct moon_test_paths){0};
}
