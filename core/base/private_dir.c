#include "base/private_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_trusted(const struct stat *st)
{
    uid_t me = geteuid();
    return me == 0 || st->st_uid == 0 || st->st_uid == me;
}

/* Static text, or NULL. */
static const char *wrong_with(const char *pathz)
{
    struct stat st;
    if (lstat(pathz, &st) < 0)
        return NULL; /* who uses it will see */
    if (!is_trusted(&st))
        return "belongs to another user";
    if (S_ISLNK(st.st_mode) && stat(pathz, &st) < 0)
        return NULL;
    if (!is_trusted(&st))
        return "leads to a directory of another user";
    if (S_ISDIR(st.st_mode) && (st.st_mode & S_IWOTH) != 0 &&
        (st.st_mode & S_ISVTX) == 0)
        return "can be written to by everybody";
    return NULL;
}

typedef bool step_fn(const char *pathz, struct moon_buf *why);

static bool check_one(const char *pathz, struct moon_buf *why)
{
    const char *wrongz = wrong_with(pathz);
    if (wrongz != NULL)
        moon_buf_printf(why, "%s %s", pathz, wrongz);
    return wrongz == NULL;
}

static bool make_one(const char *pathz, struct moon_buf *why)
{
    if (mkdir(pathz, 0700) == 0 || errno == EEXIST)
        return check_one(pathz, why);
    moon_buf_printf(why, "%s: %s", pathz, strerror(errno));
    return false;
}

/* "/a", "/a/b", "/a/b/c", until one of them says no. */
static bool walk(const char *pathz, step_fn *step, struct moon_buf *why)
{
    char *copyz = strdup(pathz);
    bool ok = copyz != NULL;
    if (!ok)
        moon_buf_printf(why, "%s: out of memory", pathz);
    for (char *at = copyz + 1; ok; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char was = *at;
        *at = '\0';
        ok = at[-1] == '/' || step(copyz, why);
        *at = was;
        if (was == '\0')
            break;
    }
    free(copyz);
    return ok;
}

bool moon_private_dir_check(const char *pathz, struct moon_buf *why)
{
    return walk(pathz, check_one, why);
}

bool moon_private_dir_make(const char *pathz, struct moon_buf *why)
{
    return walk(pathz, make_one, why);
}
