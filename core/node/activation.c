#include "node/activation.h"

#include "net/listen.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_for(const char *pidz, int self)
{
    uint64_t pid;
    return pidz != NULL && moon_str_to_u64(moon_strz(pidz), &pid) &&
           pid == (uint64_t)self;
}

static enum moon_err take_one(int fd, struct moon_str name,
                              struct moon_activation *out,
                              struct moon_buf *error)
{
    char text[256];
    struct moon_activated *socket = &out->sockets[out->count];
    socket->fd = fd;
    (void)snprintf(socket->namez, sizeof(socket->namez), "%.*s",
                   MOON_STR_ARG(name));
    socket->admin = moon_str_eq(name, MOON_STR("admin"));
    enum moon_err err =
        moon_listen_adopt(fd, &socket->address, text, sizeof(text));
    if (err != MOON_OK) {
        moon_buf_printf(error,
                        "LISTEN_FDS: %s%s%s%s; a .socket unit for us has "
                        "ListenStream= and Accept=no",
                        text, name.len > 0 ? " (\"" : "", socket->namez,
                        name.len > 0 ? "\")" : "");
        return err;
    }
    for (uint32_t i = 0; i < out->count; i++)
        if (socket->admin && out->sockets[i].admin) {
            moon_buf_addz(error, "LISTEN_FDNAMES: two sockets are named "
                                 "\"admin\"");
            return MOON_EINVAL;
        }
    out->count++;
    return MOON_OK;
}

enum moon_err moon_activation_read(const char *pidz, const char *countz,
                                   const char *namesz, int self, int first_fd,
                                   struct moon_activation *out,
                                   struct moon_buf *error)
{
    uint64_t count;
    *out = (struct moon_activation){0};
    if (countz == NULL || !is_for(pidz, self))
        return MOON_OK;
    if (!moon_str_to_u64(moon_strz(countz), &count)) {
        moon_buf_printf(error, "LISTEN_FDS: \"%s\" is not a number", countz);
        return MOON_EINVAL;
    }
    if (count > MOON_COUNT(out->sockets)) {
        moon_buf_printf(error, "LISTEN_FDS: %s sockets, at most %zu are served",
                        countz, MOON_COUNT(out->sockets));
        return MOON_EINVAL;
    }
    struct moon_str names = moon_strz(namesz != NULL ? namesz : "");
    uint32_t serving = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct moon_str name = moon_str_cut(names, ':', &names);
        enum moon_err err = take_one(first_fd + (int)i, name, out, error);
        if (err != MOON_OK)
            return err;
        serving += out->sockets[i].admin ? 0 : 1;
    }
    if (serving > MOON_LISTEN_MAX) {
        moon_buf_printf(error, "LISTEN_FDS: at most %d sockets are served",
                        MOON_LISTEN_MAX);
        return MOON_EINVAL;
    }
    return MOON_OK;
}

enum moon_err moon_activation_take(struct moon_activation *out,
                                   struct moon_buf *error)
{
    static const char *const names[] = {"LISTEN_PID", "LISTEN_FDS",
                                        "LISTEN_FDNAMES"};
    enum moon_err err = moon_activation_read(getenv(names[0]), getenv(names[1]),
                                             getenv(names[2]), getpid(),
                                             MOON_ACTIVATION_FIRST, out, error);
    for (size_t i = 0; i < MOON_COUNT(names); i++)
        (void)unsetenv(names[i]);
    return err;
}
