#include "node/witness.h"

#include "http/exchange.h"
#include "vm/task.h"

#include <sys/uio.h>

enum { TEXT_MAX = 200 };

static bool read_remote(pid_t pid, const void *from, void *to, size_t len)
{
    struct iovec local = {.iov_base = to, .iov_len = len};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = len};
    return from != NULL &&
           process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)len;
}

/* Printable ASCII only; the log must not be steered by a path. */
static void add_text(pid_t pid, struct moon_str remote, const char *labelz,
                     struct moon_buf *out)
{
    char text[TEXT_MAX];
    size_t len = remote.len < TEXT_MAX ? remote.len : TEXT_MAX;
    if (len == 0 || !read_remote(pid, remote.ptr, text, len))
        return;
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            text[i] = '?';
    moon_buf_printf(out, "%s%s%.*s", out->len > 0 ? ", " : "", labelz, (int)len,
                    text);
}

bool moon_witness_request(pid_t pid, uint64_t running_at, struct moon_buf *out)
{
    struct moon_task *task_at = NULL, task;
    struct moon_exchange x;
    struct moon_route route;
    if (!read_remote(pid, (const void *)(uintptr_t)running_at, &task_at,
                     sizeof(task_at)) ||
        !read_remote(pid, task_at, &task, sizeof(task)))
        return false;
    if (task.x == NULL) {
        moon_buf_addz(out, "a task that belongs to no request");
        return true;
    }
    if (!read_remote(pid, task.x, &x, sizeof(x)))
        return false;
    if (read_remote(pid, x.route, &route, sizeof(route))) {
        add_text(pid, route.pattern, "route ", out);
        add_text(pid, route.source, "at ", out);
    }
    add_text(pid, x.path, "path ", out);
    add_text(pid, x.request_id, "request ", out);
    return out->len > 0;
}
