#include "node/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONTROL_MAGIC 0x6d6f6f63u /* "coom" */

struct packet_head {
    uint32_t magic, type, count, text_len;
    uint64_t generation, txn;
};

void moon_control_msg_init(struct moon_control_msg *msg, uint32_t type)
{
    *msg = (struct moon_control_msg){.type = type};
    for (int i = 0; i < MOON_CONTROL_FDS; i++)
        msg->fds[i] = -1;
}

enum moon_err moon_control_pair(int fds[2])
{
    int flags = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
    if (socketpair(AF_UNIX, flags, 0, fds) < 0)
        return moon_err_from_errno(errno);
    /* Room for a few of the longest packets; the default is not always. */
    int size = 512 * 1024;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return MOON_OK;
}

enum moon_err moon_control_send(int fd, const struct moon_control_msg *msg)
{
    struct packet_head head = {
        .magic = CONTROL_MAGIC,
        .type = msg->type,
        .count = msg->count,
        .generation = msg->generation,
        .txn = msg->txn,
    };
    size_t len = msg->text.len;
    head.text_len =
        (uint32_t)(len < MOON_CONTROL_TEXT_MAX ? len : MOON_CONTROL_TEXT_MAX);
    struct iovec iov[2] = {
        {.iov_base = &head, .iov_len = sizeof(head)},
        {.iov_base = (void *)(uintptr_t)msg->text.ptr,
         .iov_len = head.text_len},
    };
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MOON_CONTROL_FDS)];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr out = {.msg_iov = iov, .msg_iovlen = 2};
    int fds[MOON_CONTROL_FDS];
    size_t fd_count = 0;
    for (int i = 0; i < MOON_CONTROL_FDS; i++)
        if (msg->fds[i] >= 0)
            fds[fd_count++] = msg->fds[i];
    if (fd_count > 0) {
        out.msg_control = control.bytes;
        out.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&out);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &out, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return MOON_OK;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
        return MOON_ECLOSED;
    return moon_err_from_errno(errno);
}

static void take_fds(struct msghdr *in, struct moon_control_msg *msg)
{
    int slot = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(in); c != NULL;
         c = CMSG_NXTHDR(in, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (slot < MOON_CONTROL_FDS)
                msg->fds[slot++] = fd;
            else
                (void)close(fd);
        }
    }
}

enum moon_err moon_control_receive(int fd, struct moon_control_msg *msg,
                                   struct moon_control_buf *buf)
{
    moon_control_msg_init(msg, 0);
    struct iovec iov = {.iov_base = buf->bytes, .iov_len = sizeof(buf->bytes)};
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MOON_CONTROL_FDS)];
        struct cmsghdr align;
    } control;
    struct msghdr in = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;
    do {
        n = recvmsg(fd, &in, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return MOON_ECLOSED;
    if (n < 0)
        return errno == ECONNRESET ? MOON_ECLOSED : moon_err_from_errno(errno);
    take_fds(&in, msg);
    struct packet_head head;
    if ((size_t)n < sizeof(head)) {
        moon_control_msg_close(msg);
        return MOON_EPROTO;
    }
    memcpy(&head, buf->bytes, sizeof(head));
    if (head.magic != CONTROL_MAGIC ||
        head.text_len != (size_t)n - sizeof(head)) {
        moon_control_msg_close(msg);
        return MOON_EPROTO;
    }
    msg->type = head.type;
    msg->count = head.count;
    msg->generation = head.generation;
    msg->txn = head.txn;
    msg->text = moon_str(buf->bytes + sizeof(head), head.text_len);
    return MOON_OK;
}

void moon_control_msg_close(struct moon_control_msg *msg)
{
    for (int i = 0; i < MOON_CONTROL_FDS; i++)
        if (msg->fds[i] >= 0) {
            (void)close(msg->fds[i]);
            msg->fds[i] = -1;
        }
}

int moon_control_msg_take_fd(struct moon_control_msg *msg, int index)
{
    int fd = msg->fds[index];
    msg->fds[index] = -1;
    return fd;
}

int moon_control_memfd(const char *namez, struct moon_str bytes)
{
    int fd = memfd_create(namez, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    size_t at = 0;
    while (at < bytes.len) {
        ssize_t n = pwrite(fd, bytes.ptr + at, bytes.len - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            (void)close(fd);
            return -1;
        }
        at += (size_t)n;
    }
    (void)fcntl(fd, F_ADD_SEALS,
                F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    return fd;
}

enum moon_err moon_control_read_memfd(int fd, size_t max, struct moon_buf *out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return moon_err_from_errno(errno);
    if (!S_ISREG(st.st_mode))
        return MOON_EPROTO;
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return MOON_ETOO_BIG;
    size_t size = (size_t)st.st_size, at = 0;
    char *to = moon_buf_reserve(out, size);
    if (to == NULL)
        return MOON_ENOMEM;
    while (at < size) {
        ssize_t n = pread(fd, to + at, size - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? moon_err_from_errno(errno) : MOON_EPROTO;
        at += (size_t)n;
    }
    out->len += size;
    return MOON_OK;
}
