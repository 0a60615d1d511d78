/* What makes descriptors, names, processes and threads, and may refuse. */
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The mode is there only with these; reading one that is not does no harm on
 * this machine's ABI, but is not C. */
#define TAKE_MODE(flags)                          \
    mode_t mode = 0;                              \
    if (((flags) & (O_CREAT | O_TMPFILE)) != 0) { \
        va_list rest;                             \
        va_start(rest, flags);                    \
        mode = va_arg(rest, mode_t);              \
        va_end(rest);                             \
    }

#define OPEN(name)                                                            \
    int name(const char *pathz, int flags, ...)                               \
    {                                                                         \
        FAULT_REAL(name);                                                     \
        TAKE_MODE(flags)                                                      \
        return fault_fails(FAULT_OPEN, -1, pathz) ? -1                        \
                                                  : real(pathz, flags, mode); \
    }

#define OPENAT(name)                                     \
    int name(int dir, const char *pathz, int flags, ...) \
    {                                                    \
        FAULT_REAL(name);                                \
        TAKE_MODE(flags)                                 \
        return fault_fails(FAULT_OPEN, -1, pathz)        \
                   ? -1                                  \
                   : real(dir, pathz, flags, mode);      \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *restrict pathz, const char *restrict modez)
{
    FAULT_REAL(fopen);
    return fault_fails(FAULT_OPEN, -1, pathz) ? NULL : real(pathz, modez);
}

DIR *opendir(const char *pathz)
{
    FAULT_REAL(opendir);
    return fault_fails(FAULT_OPEN, -1, pathz) ? NULL : real(pathz);
}

pid_t fork(void)
{
    FAULT_REAL(fork);
    return fault_fails(FAULT_FORK, -1, NULL) ? -1 : real();
}

int pthread_create(pthread_t *restrict thread,
                   const pthread_attr_t *restrict attr, void *(*fn)(void *),
                   void *restrict ud)
{
    FAULT_REAL(pthread_create);
    int keep = errno;
    bool no = fault_fails(FAULT_THREAD, -1, NULL);
    errno = keep;
    return no ? EAGAIN : real(thread, attr, fn, ud);
}

/* The others return -1 with errno. */
#define CALL(type, name, call, fd, pathz, params, args) \
    type name params                                    \
    {                                                   \
        FAULT_REAL(name);                               \
        struct fault fault = fault_of(call, fd, pathz); \
        if (fault.hit && fault.action == FAULT_FAIL) {  \
            errno = fault.error;                        \
            return -1;                                  \
        }                                               \
        type done = real args;                          \
        fault_after(fault);                             \
        return done;                                    \
    }

CALL(int, memfd_create, FAULT_OPEN, -1, namez,
     (const char *namez, unsigned flags), (namez, flags))
CALL(int, socket, FAULT_SOCKET, -1, NULL, (int family, int type, int protocol),
     (family, type, protocol))
CALL(int, socketpair, FAULT_SOCKET, -1, NULL,
     (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))
CALL(int, accept, FAULT_ACCEPT, fd, NULL,
     (int fd, struct sockaddr *restrict addr, socklen_t *restrict len),
     (fd, addr, len))
CALL(int, accept4, FAULT_ACCEPT, fd, NULL,
     (int fd, struct sockaddr *restrict addr, socklen_t *restrict len,
      int flags),
     (fd, addr, len, flags))
CALL(int, connect, FAULT_CONNECT, fd, NULL,
     (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
CALL(int, rename, FAULT_NAME, -1, fromz, (const char *fromz, const char *toz),
     (fromz, toz))
CALL(int, renameat, FAULT_NAME, -1, fromz,
     (int from_dir, const char *fromz, int to_dir, const char *toz),
     (from_dir, fromz, to_dir, toz))
CALL(int, unlink, FAULT_NAME, -1, pathz, (const char *pathz), (pathz))
CALL(int, unlinkat, FAULT_NAME, -1, pathz,
     (int dir, const char *pathz, int flags), (dir, pathz, flags))
CALL(int, mkdir, FAULT_NAME, -1, pathz, (const char *pathz, mode_t mode),
     (pathz, mode))
CALL(int, mkdirat, FAULT_NAME, -1, pathz,
     (int dir, const char *pathz, mode_t mode), (dir, pathz, mode))
CALL(pid_t, waitpid, FAULT_CHILD, -1, NULL,
     (pid_t pid, int *status, int options), (pid, status, options))
