#include "fleet/http.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 16384

static enum moon_err send_all(int fd, struct moon_str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return moon_err_from_errno(errno);
        if (n > 0)
            bytes = moon_str(bytes.ptr + n, bytes.len - (size_t)n);
    }
    return MOON_OK;
}

static enum moon_err receive_all(int fd, struct moon_buf *to)
{
    for (;;) {
        char *room = moon_buf_reserve(to, CHUNK);
        if (room == NULL)
            return MOON_ENOMEM;
        ssize_t n = recv(fd, room, CHUNK, 0);
        if (n == 0)
            return MOON_OK;
        if (n < 0 && errno == EAGAIN)
            return MOON_ETIMEOUT; /* SO_RCVTIMEO */
        if (n < 0 && errno != EINTR)
            return moon_err_from_errno(errno);
        if (n > 0)
            to->len += (size_t)n;
    }
}

/* Finds the header; its trimmed value. */
static bool find_header(struct moon_str head, struct moon_str name,
                        struct moon_str *value)
{
    while (head.len > 0) {
        struct moon_str line = moon_str_cut(head, '\n', &head);
        struct moon_str field = moon_str_cut(line, ':', value);
        if (moon_str_eq_nocase(field, name)) {
            if (value->len > 0 && value->ptr[value->len - 1] == '\r')
                value->len--;
            *value = moon_str_trim(*value);
            return true;
        }
    }
    return false;
}

enum moon_err moon_fleet_parse(struct moon_str answer, int *status,
                               struct moon_str *body)
{
    static const char end[] = "\r\n\r\n";
    struct moon_str rest, value;
    uint64_t number, length;
    const char *at =
        answer.len > 0 ? memmem(answer.ptr, answer.len, end, 4) : NULL;
    if (answer.len == 0 || at == NULL)
        return answer.len > 0 && !moon_str_starts(answer, MOON_STR("HTTP/1."))
                   ? MOON_EPROTO
                   : MOON_ECLOSED;
    struct moon_str head = moon_str(answer.ptr, (size_t)(at - answer.ptr) + 2);
    *body = moon_str(at + 4, answer.len - head.len - 2);
    struct moon_str line = moon_str_cut(head, '\r', &rest);
    struct moon_str version = moon_str_cut(line, ' ', &rest);
    if (!moon_str_starts(version, MOON_STR("HTTP/1.")) ||
        !moon_str_to_u64(moon_str_cut(rest, ' ', &rest), &number) ||
        number < 100 || number > 599)
        return MOON_EPROTO;
    *status = (int)number;
    if (!find_header(head, MOON_STR("Content-Length"), &value))
        return MOON_OK;
    if (!moon_str_to_u64(value, &length))
        return MOON_EPROTO;
    if (length > body->len)
        return MOON_ECLOSED;
    body->len = (size_t)length;
    return MOON_OK;
}

enum moon_err moon_fleet_exchange(int fd, struct moon_str request, int *status,
                                  struct moon_buf *body)
{
    struct moon_buf answer = {0};
    struct moon_str text = MOON_STR_NONE;
    enum moon_err err = send_all(fd, request);
    if (err == MOON_OK)
        err = receive_all(fd, &answer);
    if (err == MOON_OK)
        err = moon_fleet_parse(moon_buf_str(&answer), status, &text);
    if (err == MOON_OK)
        moon_buf_add_str(body, text);
    moon_buf_deinit(&answer);
    return err;
}
