#include "fleet/cluster_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { TAIL_BYTES = 2048 };

MOON_NORETURN static void become(const struct moon_cluster_child *child,
                                 const char *const *argv, int end_signal,
                                 int failed_fd, pid_t parent)
{
    sigset_t none;
    (void)setpgid(0, 0); /* a Ctrl-C is ours to pass on */
    (void)prctl(PR_SET_PDEATHSIG, end_signal);
    if (getppid() != parent)
        _exit(127); /* it died before we asked to be told */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int out = child->logz[0] == '\0'
                  ? dup(1)
                  : open(child->logz, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int in = open("/dev/null", O_RDONLY);
    if (out >= 0 && in >= 0 && dup2(in, 0) == 0 && dup2(out, 1) == 1 &&
        dup2(out, 2) == 2)
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
    int sys = errno;
    (void)!write(failed_fd, &sys, sizeof(sys));
    _exit(127);
}

bool moon_cluster_spawn(struct moon_cluster_child *child,
                        const char *const *argv, int end_signal)
{
    int fds[2], sys = 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(child, argv, end_signal, fds[1], parent);
    if (pid < 0)
        sys = errno;
    (void)close(fds[1]);
    /* Closed without a byte by a successful exec. */
    if (pid > 0 && read(fds[0], &sys, sizeof(sys)) != (ssize_t)sizeof(sys))
        sys = 0;
    (void)close(fds[0]);
    errno = sys;
    if (sys != 0)
        return false;
    child->pid = pid;
    child->told = false;
    return true;
}

void moon_cluster_tell(struct moon_cluster_child *child, int signal)
{
    if (child->pid > 0)
        (void)kill(child->pid, signal);
}

void moon_cluster_print_log(const struct moon_cluster_child *child)
{
    char tail[TAIL_BYTES + 1];
    int fd = open(child->logz, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > TAIL_BYTES ? end - TAIL_BYTES : 0;
    ssize_t n = pread(fd, tail, TAIL_BYTES, from);
    (void)close(fd);
    if (n <= 0)
        return;
    tail[n] = '\0';
    const char *textz = from > 0 ? strchr(tail, '\n') : tail;
    if (textz == NULL)
        textz = tail;
    (void)fprintf(stderr, "%s: the end of %s:\n%s%s", child->namez, child->logz,
                  *textz == '\n' ? textz + 1 : textz,
                  tail[n - 1] == '\n' ? "" : "\n");
}
