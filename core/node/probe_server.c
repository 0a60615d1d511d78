#include "node/probe_server.h"

#include "base/random.h"
#include "net/app_handler.h"

#include <arpa/inet.h>
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

/* ---- who a request says it comes from ---- */

static const struct moon_handler *app_ops;

/* Takes the field out of the request; false if it is not there. */
static bool take_field(struct moon_request *req, struct moon_str name,
                       struct moon_str *value)
{
    for (uint32_t i = 0; i < req->field_count; i++) {
        const struct moon_field *field = &req->fields[i];
        if (!moon_str_eq_nocase(moon_request_str(req, field->name), name))
            continue;
        *value = moon_request_str(req, field->value);
        memmove(req->fields + i, req->fields + i + 1,
                (req->field_count - i - 1) * sizeof(*req->fields));
        req->field_count--;
        return true;
    }
    return false;
}

static void set_peer(struct moon_peer *peer, struct moon_str address)
{
    char text[MOON_IP_TEXT];
    (void)snprintf(text, sizeof(text), "%.*s", MOON_STR_ARG(address));
    if (inet_pton(AF_INET, text, peer->addr) == 1)
        peer->family = AF_INET;
    else if (inet_pton(AF_INET6, text, peer->addr) == 1)
        peer->family = AF_INET6;
}

static void on_head(void *ctx, struct moon_exchange *x)
{
    struct moon_str value;
    if (take_field(&x->req, MOON_STR("moonshine-test-peer"), &value))
        set_peer(&x->peer, value);
    bool https =
        take_field(&x->req, MOON_STR("moonshine-test-scheme"), &value) &&
        moon_str_eq(value, MOON_STR("https"));
    (void)moon_exchange_client(x); /* found now, so that it stays as set here */
    if (https)
        x->client.scheme = MOON_STR("https");
    app_ops->on_head(ctx, x);
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
    settings.trusted_proxies = NULL;
    static struct moon_handler ops;
    app_ops = moon_app_handler_ops(handler);
    ops = *app_ops;
    ops.on_head = on_head;
    struct moon_server *server = moon_server_create(loop, &ops, &settings);
    if (server == NULL) {
        moon_app_handler_destroy(handler);
        return MOON_ENOMEM;
    }
    return moon_server_listen(server, fd, false);
}
