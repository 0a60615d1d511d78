/* Reading, writing and waiting, which may fail, do a byte only, or be the last
 * thing that a process does. */
#include "faults.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static size_t cut(struct fault fault, size_t len)
{
    return fault.hit && fault.action == FAULT_SHORT && len > 1 ? 1 : len;
}

/* The first byte of what is to be moved. */
static struct iovec first_byte(const struct iovec *iov, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (iov[i].iov_len > 0)
            return (struct iovec){iov[i].iov_base, 1};
    return (struct iovec){NULL, 0};
}

static bool failed(struct fault fault)
{
    if (!fault.hit || fault.action != FAULT_FAIL)
        return false;
    errno = fault.error;
    return true;
}

/* Calls of (fd, bytes, length, ...). */
#define BYTES(type, name, call, params, args)          \
    type name params                                   \
    {                                                  \
        FAULT_REAL(name);                              \
        struct fault fault = fault_of(call, fd, NULL); \
        if (failed(fault))                             \
            return -1;                                 \
        size_t size = cut(fault, len);                 \
        type done = real args;                         \
        fault_after(fault);                            \
        return done;                                   \
    }

/* Calls of (fd, iov, count, ...). */
#define PIECES(name, call, params, args)                   \
    ssize_t name params                                    \
    {                                                      \
        FAULT_REAL(name);                                  \
        struct fault fault = fault_of(call, fd, NULL);     \
        if (failed(fault))                                 \
            return -1;                                     \
        struct iovec one = first_byte(iov, (size_t)count); \
        if (fault.hit && fault.action == FAULT_SHORT) {    \
            iov = &one;                                    \
            count = 1;                                     \
        }                                                  \
        ssize_t done = real args;                          \
        fault_after(fault);                                \
        return done;                                       \
    }

/* Calls of (fd, message, flags). */
#define MESSAGE(name, call, type)                                     \
    ssize_t name(int fd, type *msg, int flags)                        \
    {                                                                 \
        FAULT_REAL(name);                                             \
        struct fault fault = fault_of(call, fd, NULL);                \
        if (failed(fault))                                            \
            return -1;                                                \
        struct iovec one = first_byte(msg->msg_iov, msg->msg_iovlen); \
        struct msghdr piece = *msg;                                   \
        bool brief = fault.hit && fault.action == FAULT_SHORT;        \
        if (brief) {                                                  \
            piece.msg_iov = &one;                                     \
            piece.msg_iovlen = 1;                                     \
        }                                                             \
        ssize_t done = real(fd, brief ? &piece : msg, flags);         \
        fault_after(fault);                                           \
        return done;                                                  \
    }

BYTES(ssize_t, read, FAULT_READ, (int fd, void *buf, size_t len),
      (fd, buf, size))
BYTES(ssize_t, recv, FAULT_READ, (int fd, void *buf, size_t len, int flags),
      (fd, buf, size, flags))
BYTES(ssize_t, recvfrom, FAULT_READ,
      (int fd, void *restrict buf, size_t len, int flags,
       struct sockaddr *restrict addr, socklen_t *restrict addr_len),
      (fd, buf, size, flags, addr, addr_len))
BYTES(ssize_t, write, FAULT_WRITE, (int fd, const void *buf, size_t len),
      (fd, buf, size))
BYTES(ssize_t, send, FAULT_WRITE,
      (int fd, const void *buf, size_t len, int flags), (fd, buf, size, flags))
BYTES(ssize_t, sendto, FAULT_WRITE,
      (int fd, const void *buf, size_t len, int flags,
       const struct sockaddr *addr, socklen_t addr_len),
      (fd, buf, size, flags, addr, addr_len))
BYTES(ssize_t, pread, FAULT_PREAD,
      (int fd, void *buf, size_t len, off_t offset), (fd, buf, size, offset))
BYTES(ssize_t, pread64, FAULT_PREAD,
      (int fd, void *buf, size_t len, off_t offset), (fd, buf, size, offset))
BYTES(ssize_t, pwrite, FAULT_PWRITE,
      (int fd, const void *buf, size_t len, off_t offset),
      (fd, buf, size, offset))
BYTES(ssize_t, pwrite64, FAULT_PWRITE,
      (int fd, const void *buf, size_t len, off_t offset),
      (fd, buf, size, offset))
BYTES(ssize_t, sendfile, FAULT_COPY,
      (int fd, int from, off_t *offset, size_t len), (fd, from, offset, size))
BYTES(ssize_t, sendfile64, FAULT_COPY,
      (int fd, int from, off_t *offset, size_t len), (fd, from, offset, size))

PIECES(readv, FAULT_READ, (int fd, const struct iovec *iov, int count),
       (fd, iov, count))
PIECES(writev, FAULT_WRITE, (int fd, const struct iovec *iov, int count),
       (fd, iov, count))
PIECES(pwritev, FAULT_PWRITE,
       (int fd, const struct iovec *iov, int count, off_t offset),
       (fd, iov, count, offset))

MESSAGE(recvmsg, FAULT_READ, struct msghdr)
MESSAGE(sendmsg, FAULT_WRITE, const struct msghdr)

/* Calls without a length. */
#define WHOLE(name, call, fd, pathz, params, args)      \
    int name params                                     \
    {                                                   \
        FAULT_REAL(name);                               \
        struct fault fault = fault_of(call, fd, pathz); \
        if (failed(fault))                              \
            return -1;                                  \
        int done = real args;                           \
        fault_after(fault);                             \
        return done;                                    \
    }

WHOLE(fsync, FAULT_SYNC, fd, NULL, (int fd), (fd))
WHOLE(fdatasync, FAULT_SYNC, fd, NULL, (int fd), (fd))
WHOLE(msync, FAULT_SYNC, -1, NULL, (void *at, size_t len, int flags),
      (at, len, flags))
WHOLE(ftruncate, FAULT_SIZE, fd, NULL, (int fd, off_t size), (fd, size))
WHOLE(ftruncate64, FAULT_SIZE, fd, NULL, (int fd, off_t size), (fd, size))
WHOLE(epoll_wait, FAULT_POLL, -1, NULL,
      (int epfd, struct epoll_event *events, int most, int timeout),
      (epfd, events, most, timeout))
WHOLE(epoll_pwait, FAULT_POLL, -1, NULL,
      (int epfd, struct epoll_event *events, int most, int timeout,
       const sigset_t *mask),
      (epfd, events, most, timeout, mask))
WHOLE(poll, FAULT_POLL, -1, NULL,
      (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))

/* Which some make by their number, to save the detour over libc. */
long syscall(long number, ...)
{
    FAULT_REAL(syscall);
    long arg[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_read)
        return read((int)arg[0], (void *)arg[1], (size_t)arg[2]);
    if (number == SYS_write)
        return write((int)arg[0], (const void *)arg[1], (size_t)arg[2]);
    if (number == SYS_openat2 &&
        fault_fails(FAULT_OPEN, -1, (const char *)arg[1]))
        return -1;
    return real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
