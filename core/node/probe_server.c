#include "node/probe_server.h"

#include "base/random.h"
#include "net/app_handler.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int moon_probe_server_listen(char namez[MOON_PROBE_NAME])
{
    uint64_t bits[2];
    moon_random_bytes(bits, sizeof(bits));
    int len =
        snprintf(namez, MOON_PROBE_NAME, "@moonshine-check-%016llx%016llx",
                 (unsigned long long)bits[0], (unsigned long long)bits[1]);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path + 1, namez + 1, (size_t)len - 1);
    socklen_t un_len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (bind(fd, (const struct sockaddr *)&un, un_len) != 0 ||
                    listen(fd, 64) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

enum moon_err moon_probe_server_start(int fd, struct moon_vm *vm,
                                      struct moon_archive *archive,
                                      struct moon_config *config,
                                      uv_loop_t *loop)
{
    static struct moon_generation generation; /* one probe a process */
    static const struct moon_app_handler_options options;
    generation = (struct moon_generation){
        .number = moon_vm_generation(vm),
        .vm = vm,
        .files = archive,
        .config = config,
    };
    struct moon_app_handler *handler = moon_app_handler_create(&options);
    if (handler == NULL)
        return MOON_ENOMEM;
    moon_app_handler_set_generation(handler, &generation);
    struct moon_server_config settings;
    moon_app_server_config(config, &settings);
    struct moon_server *server =
        moon_server_create(loop, moon_app_handler_ops(handler), &settings);
    if (server == NULL) {
        moon_app_handler_destroy(handler);
        return MOON_ENOMEM;
    }
    return moon_server_listen(server, fd);
}
