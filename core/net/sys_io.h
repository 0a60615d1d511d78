/* read(2) and write(2) as plain system calls, for the bytes of connections.
 *
 * In a program with threads those of glibc are points where a thread may be
 * cancelled, which costs each some fifty instructions; nobody cancels our
 * threads. Result and errno are the same. */
#ifndef MOON_NET_SYS_IO_H
#define MOON_NET_SYS_IO_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline ssize_t moon_sys_read(int fd, void *to, size_t len)
{
    return syscall(SYS_read, fd, to, len);
}

static inline ssize_t moon_sys_write(int fd, const void *from, size_t len)
{
    return syscall(SYS_write, fd, from, len);
}

#endif
