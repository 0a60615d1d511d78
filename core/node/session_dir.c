#include "node/session_dir.h"

#include "base/private_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void moon_session_dir_path(const struct moon_config *fixed, char *to,
                           size_t size)
{
    (void)snprintf(to, size, "%s/sessions", fixed->state_dirz);
}

/* They pass through the state directory, and see nothing of it. */
static int hand_over(const struct moon_config *fixed, int fd)
{
    const struct passwd *pw = getpwnam(fixed->userz);
    struct stat st;
    if (pw == NULL)
        return ENOENT;
    if (fchown(fd, pw->pw_uid, pw->pw_gid) < 0 ||
        stat(fixed->state_dirz, &st) < 0)
        return errno;
    mode_t open = (st.st_mode & 07777) | 0111;
    if (st.st_uid == 0 && st.st_mode != open &&
        chmod(fixed->state_dirz, open) < 0)
        return errno;
    return 0;
}

static int make(const struct moon_config *fixed, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    int sys = 0;
    if (geteuid() == 0 && fixed->userz[0] != '\0' &&
        strcmp(fixed->userz, "root") != 0)
        sys = hand_over(fixed, fd);
    (void)close(fd);
    return sys;
}

void moon_session_dir_make(const struct moon_config *fixed,
                           struct moon_buf *warnings)
{
    char path[PATH_MAX];
    moon_session_dir_path(fixed, path, sizeof(path));
    size_t before = warnings->len;
    moon_buf_addz(warnings, "cannot keep sessions: ");
    if (!moon_private_dir_make(path, warnings)) {
        moon_buf_addz(warnings, "\n");
        return;
    }
    warnings->len = before;
    int sys = make(fixed, path);
    if (sys != 0)
        moon_buf_printf(warnings, "cannot keep sessions in %s: %s\n", path,
                        strerror(sys));
}
